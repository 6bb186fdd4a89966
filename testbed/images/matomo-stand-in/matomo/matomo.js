/* A stand-in for Matomo's tracker: the public interface of _paq as far as it is documented, for tests only. */
(function () {
  'use strict';
  if (window.Matomo && window.Matomo.initialized) { return; }

  var DAY = 86400;
  var FIRST = ['setTrackerUrl', 'setSiteId', 'requireConsent', 'requireCookieConsent', 'setCookieConsentGiven',
    'rememberCookieConsentGiven', 'setConsentGiven', 'rememberConsentGiven', 'forgetConsentGiven',
    'forgetCookieConsentGiven', 'optUserOut', 'forgetUserOptOut', 'disableCookies', 'setDoNotTrack', 'setCookieDomain',
    'setCookiePath', 'setSecureCookie', 'setCookieSameSite', 'setDomains', 'setUserId', 'setCustomUrl',
    'setDocumentTitle', 'setReferrerUrl', 'disableAlwaysUseSendBeacon', 'setRequestMethod', 'setDownloadExtensions',
    'addDownloadExtensions', 'removeDownloadExtensions', 'setDownloadClasses', 'setLinkClasses', 'setIgnoreClasses'];

  function hex(length) {
    var bytes = new Uint8Array(length / 2);
    window.crypto.getRandomValues(bytes);
    return Array.prototype.map.call(bytes, function (b) { return ('0' + b.toString(16)).slice(-2); }).join('');
  }

  // Like the original's: so that trackers of different domains do not share cookies.
  function shortHash(text) {
    var h = 5381, i;
    for (i = 0; i < text.length; i++) { h = ((h << 5) + h + text.charCodeAt(i)) >>> 0; }
    return ('0000' + h.toString(16)).slice(-4);
  }

  function Tracker(trackerUrl, siteId) {
    var self = this, queue = [], cookies = !window.matomoForceCookieless, listening = false;
    var consentRequired = false, consentGiven = true, cookieConsentRequired = false;
    var doNotTrack = false, path = '/', domain = '', secure = false, sameSite = 'Lax', beacon = true;
    var domains = [location.hostname], url, title, referrer, userId = '', visitor = hex(16), pageview = '';
    var heartbeat = 0, downloads = ('7z|aac|apk|arc|arj|asf|asx|avi|azw3|bin|bz|bz2|csv|deb|dmg|doc|docx|epub|exe|flv|gif|'
      + 'gz|gzip|hqx|ibooks|jar|jpe?g|js|md5|mobi|mov|mp2|mp3|mp4|mpe?g|msi|msp|odb|odf|odg|ods|odt|ogg|ogv|pdf|phps|'
      + 'png|ppt|pptx|qtm?|ram?|rar|rpm|rtf|sea|sha|sha256|sha512|sig|sit|tar|tbz|tbz2|tgz|torrent|txt|wav|webp|wma|wmv|'
      + 'wpd|xls|xlsx|xml|xz|z|zip').split('|');

    function address() { return url || location.href; }
    function cookieName(kind) {
      return '_pk_' + kind + '.' + siteId + '.' + shortHash((domain || location.hostname) + path);
    }
    function read(name) {
      var found = document.cookie.match(new RegExp('(?:^|; )' + name.replace(/\./g, '\\.') + '=([^;]*)'));
      return found ? decodeURIComponent(found[1]) : '';
    }
    function write(name, value, seconds) {
      document.cookie = name + '=' + encodeURIComponent(value) + '; path=' + path + '; max-age=' + seconds
        + (domain ? '; domain=' + domain : '') + '; SameSite=' + sameSite + (secure ? '; Secure' : '');
    }
    function refused() {
      var said = navigator.doNotTrack || window.doNotTrack || navigator.msDoNotTrack;
      return (doNotTrack && (said === 'yes' || said === '1')) || read('mtm_consent_removed') !== '';
    }
    function visitorId() {
      if (!cookies) { return ''; }
      var kept = read(cookieName('id'));
      if (/^[0-9a-f]{16}\./.test(kept)) { visitor = kept.split('.')[0]; }
      write(cookieName('id'), kept || visitor + '.' + Math.round(Date.now() / 1000), 393 * DAY);
      write(cookieName('ses'), '1', 1800);
      return visitor;
    }
    function send(parameters) {
      if (refused()) { return; }
      if (consentRequired && !consentGiven) { queue.push(parameters); return; }
      var now = new Date(), all = { idsite: siteId, rec: 1, r: hex(6), h: now.getHours(), m: now.getMinutes(),
        s: now.getSeconds(), url: address(), urlref: referrer === undefined ? document.referrer : referrer,
        _id: visitorId(), send_image: 0, cookie: cookies ? 1 : 0, res: screen.width + 'x' + screen.height,
        pv_id: pageview }, body, name;
      if (userId) { all.uid = userId; }
      for (name in parameters) { all[name] = parameters[name]; }
      body = Object.keys(all).map(function (key) {
        return encodeURIComponent(key) + '=' + encodeURIComponent(all[key]);
      }).join('&');
      if (beacon && navigator.sendBeacon) {
        var type = { type: 'application/x-www-form-urlencoded; charset=UTF-8' };
        if (navigator.sendBeacon(trackerUrl, new Blob([body], type))) { return; }
      }
      window.fetch(trackerUrl + (trackerUrl.indexOf('?') < 0 ? '?' : '&') + body, { mode: 'no-cors', keepalive: true });
    }
    function flush() {
      var waiting = queue;
      queue = [];
      waiting.forEach(send);
    }
    function isOwn(host) {
      return domains.some(function (one) {
        one = one.replace(/^https?:\/\//, '').split('/')[0];
        return host === one || (/^\*\./.test(one) && (host === one.slice(2) || host.endsWith(one.slice(1))));
      });
    }
    function kindOf(link) {
      if (/\bmatomo_ignore\b|\bpiwik_ignore\b/.test(link.className)) { return ''; }
      if (link.hasAttribute('download') || /\b(matomo|piwik)_download\b/.test(link.className)) { return 'download'; }
      if (/\b(matomo|piwik)_link\b/.test(link.className)) { return 'link'; }
      if (new RegExp('\\.(' + downloads.join('|') + ')([?&#]|$)', 'i').test(link.href)) { return 'download'; }
      return /^https?:$/.test(link.protocol) && !isOwn(link.hostname) ? 'link' : '';
    }
    function clicked(event) {
      var link = event.target, kind;
      while (link && link.tagName !== 'A' && link.tagName !== 'AREA') { link = link.parentElement; }
      if (link && link.href && (event.type === 'click' || event.button === 1)) {
        kind = kindOf(link);
        if (kind) { self.trackLink(link.href, kind); }
      }
    }

    this.setTrackerUrl = function (value) { trackerUrl = value; };
    this.getTrackerUrl = function () { return trackerUrl; };
    this.setSiteId = function (value) { siteId = value; };
    this.getSiteId = function () { return siteId; };
    this.setCustomUrl = function (value) { url = new URL(value, location.href).href; };
    this.setDocumentTitle = function (value) { title = value; };
    this.setReferrerUrl = function (value) { referrer = value; };
    this.setUserId = function (value) { userId = String(value || ''); };
    this.resetUserId = function () { userId = ''; };
    this.setDomains = function (value) { domains = [].concat(value, location.hostname); };
    this.setCookieDomain = function (value) { domain = value.replace(/^\*?\.?/, ''); };
    this.setCookiePath = function (value) { path = value; };
    this.setSecureCookie = function (value) { secure = value; };
    this.setCookieSameSite = function (value) { sameSite = value; };
    this.setRequestMethod = function (value) { beacon = value !== 'GET'; };
    this.alwaysUseSendBeacon = function () { beacon = true; };
    this.disableAlwaysUseSendBeacon = function () { beacon = false; };
    this.setDoNotTrack = function (value) { doNotTrack = value; };
    this.disableCookies = function () { cookies = false; };
    this.enableCookies = function () { cookies = !window.matomoForceCookieless; };
    this.hasCookies = function () { return cookies; };
    this.areCookiesEnabled = function () { return cookies; };
    this.deleteCookies = function () {
      ['id', 'ses', 'ref'].forEach(function (kind) { write(cookieName(kind), '', 0); });
    };
    this.getVisitorId = function () { return visitor; };
    this.setDownloadExtensions = function (value) { downloads = [].concat(String(value).split(/[|,]/)); };
    this.addDownloadExtensions = function (value) { downloads = downloads.concat(String(value).split(/[|,]/)); };
    this.removeDownloadExtensions = function (value) {
      var gone = String(value).split(/[|,]/);
      downloads = downloads.filter(function (one) { return gone.indexOf(one) < 0; });
    };
    this.setLinkTrackingTimer = this.setDownloadClasses = this.setLinkClasses = this.setIgnoreClasses = function () {};
    this.disablePerformanceTracking = this.disableBrowserFeatureDetection = function () {};
    this.enableCrossDomainLinking = this.setVisitorCookieTimeout = this.setSessionCookieTimeout = function () {};

    this.trackPageView = function (name) {
      pageview = hex(6);
      send({ action_name: name || title || document.title });
      if (heartbeat) {
        setInterval(function () { if (document.hasFocus()) { self.ping(); } }, heartbeat * 1000);
        heartbeat = 0;
      }
    };
    this.trackEvent = function (category, action, name, value) {
      var event = { e_c: category, e_a: action, ca: 1 };
      if (name !== undefined) { event.e_n = name; }
      if (value !== undefined) { event.e_v = value; }
      if (String(category).trim() && String(action).trim()) { send(event); }
    };
    this.trackLink = function (target, kind) {
      var hit = {};
      hit[kind] = target;
      send(hit);
    };
    this.trackSiteSearch = function (keyword) { send({ search: keyword }); };
    this.ping = function () { send({ ping: 1 }); };
    this.enableHeartBeatTimer = function (seconds) { heartbeat = seconds || 15; };
    this.enableLinkTracking = function () {
      if (listening) { return; }
      listening = true;
      document.addEventListener('click', clicked, true);
      document.addEventListener('auxclick', clicked, true);
    };

    this.requireConsent = function () {
      consentRequired = true;
      consentGiven = read('mtm_consent') !== '';
      if (!consentGiven) { cookies = false; }
    };
    this.setConsentGiven = function () {
      write('mtm_consent_removed', '', 0);
      consentGiven = true;
      self.enableCookies();
      flush();
    };
    this.rememberConsentGiven = function (hours) {
      write('mtm_consent', String(Date.now()), hours ? hours * 3600 : 30 * 365 * DAY);
      self.setConsentGiven();
    };
    this.forgetConsentGiven = function () {
      write('mtm_consent', '', 0);
      write('mtm_consent_removed', String(Date.now()), 30 * 365 * DAY);
      consentGiven = false;
      self.deleteCookies();
    };
    this.hasRememberedConsent = function () { return read('mtm_consent') !== ''; };
    this.isConsentRequired = function () { return consentRequired; };
    this.requireCookieConsent = function () {
      cookieConsentRequired = true;
      if (read('mtm_cookie_consent') === '') { cookies = false; }
    };
    this.isCookieConsentRequired = function () { return cookieConsentRequired; };
    this.setCookieConsentGiven = function () {
      self.enableCookies();
      if (pageview && !refused()) { visitorId(); }
    };
    this.rememberCookieConsentGiven = function (hours) {
      write('mtm_cookie_consent', String(Date.now()), hours ? hours * 3600 : 30 * 365 * DAY);
      self.setCookieConsentGiven();
    };
    this.forgetCookieConsentGiven = function () {
      write('mtm_cookie_consent', '', 0);
      self.deleteCookies();
      cookies = false;
    };
    this.getRememberedCookieConsent = function () { return read('mtm_cookie_consent') || null; };
    this.optUserOut = function () { write('mtm_consent_removed', String(Date.now()), 30 * 365 * DAY); };
    this.forgetUserOptOut = function () { write('mtm_consent_removed', '', 0); };
    this.isUserOptedOut = function () { return read('mtm_consent_removed') !== ''; };
  }

  var tracker = new Tracker('', ''), waiting = Array.isArray(window._paq) ? window._paq : [];

  function apply() {
    Array.prototype.forEach.call(arguments, function (command) {
      if (typeof command[0] === 'function') {
        command[0].apply(tracker, command.slice(1));
      } else if (typeof tracker[command[0]] === 'function') {
        tracker[command[0]].apply(tracker, command.slice(1));
      } else {
        console.error("The method '" + command[0] + '\' was not found in "_paq" variable.');
      }
    });
  }

  window.Matomo = window.Piwik = {
    initialized: true,
    getTracker: function (url, site) { return new Tracker(url, site); },
    getAsyncTracker: function () { return tracker; }
  };
  FIRST.forEach(function (name) {
    waiting.filter(function (command) { return command[0] === name; }).forEach(function (command) { apply(command); });
  });
  waiting.filter(function (command) { return FIRST.indexOf(command[0]) < 0; }).forEach(function (command) {
    apply(command);
  });
  window._paq = { push: apply };
})();
