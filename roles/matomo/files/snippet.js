(function () {
  var settings = SETTINGS;
  var told = 0;

  // A second tag on the page would count everything twice.
  if (window.matomoConsent) { return; }

  // Looked up each time: once the tracker is there, it puts something else in the place of this list.
  window._paq = window._paq || [];
  function track() { window._paq.push(Array.prototype.slice.call(arguments)); }

  // Call matomoConsent(true) or matomoConsent(false) from your banner, or mark its buttons with
  // data-matomo-consent="give" and data-matomo-consent="withdraw". The choice is remembered.
  window.matomoConsent = function (given) {
    var words = {
      cookie_consent: ['rememberCookieConsentGiven', 'forgetCookieConsentGiven'],
      consent: ['rememberConsentGiven', 'forgetConsentGiven']
    }[settings.consent] || ['forgetUserOptOut', 'optUserOut'];
    if (given) {
      track(words[0]);
      track('trackEvent', 'Consent', 'given');
    } else {
      track('trackEvent', 'Consent', 'withdrawn');
      track(words[1]);
    }
  };

  function clicked(event) {
    var button = event.target.closest && event.target.closest('[data-matomo-consent]');
    if (button) { window.matomoConsent(button.getAttribute('data-matomo-consent') === 'give'); }
  }

  function scrolled() {
    var page = document.documentElement;
    var height = Math.max(page.scrollHeight, document.body ? document.body.scrollHeight : 0);
    // Heights are rounded, so the very end may be half a pixel short of it.
    var seen = (window.pageYOffset + window.innerHeight + 1) * 100 / height;
    while (told < 100 && seen >= told + 25) {
      told += 25;
      track('trackEvent', 'Scroll depth', told + ' %', window.location.pathname, told);
    }
  }

  function received(entry) {
    if (!entry || typeof entry !== 'object') { return; }
    if (entry.event === 'matomo') { track('trackEvent', entry.category, entry.action, entry.name, entry.value); }
    if (entry.event === 'matomo.consent') { window.matomoConsent(Boolean(entry.given)); }
    if (/^gtm\.historyChange/.test(entry.event || '')) {
      told = 0;
      track('setCustomUrl', window.location.href);
      track('setDocumentTitle', document.title);
      track('trackPageView');
      scrolled();
    }
  }

  function listenToTagManager() {
    var layer = window.dataLayer = window.dataLayer || [];
    var push = layer.push;
    var place;
    for (place = 0; place < layer.length; place += 1) {
      // Changes of the address that came before this page view are part of it.
      if (!/^gtm\./.test((layer[place] || {}).event || '')) { received(layer[place]); }
    }
    layer.push = function () {
      Array.prototype.forEach.call(arguments, received);
      return push.apply(layer, arguments);
    };
  }

  // Before anything is tracked: what the visitor has not agreed to must not happen even once.
  if (settings.consent === 'cookieless') { track('disableCookies'); }
  if (settings.consent === 'cookie_consent') { track('requireCookieConsent'); }
  if (settings.consent === 'consent') { track('requireConsent'); }
  if (settings.doNotTrack) { track('setDoNotTrack', true); }
  track('setTrackerUrl', settings.url + 'matomo.php');
  track('setSiteId', String(settings.site));
  track('trackPageView');
  track('enableLinkTracking');

  document.addEventListener('click', clicked);
  window.addEventListener('scroll', scrolled, {passive: true});
  if (document.readyState === 'complete') { scrolled(); } else { window.addEventListener('load', scrolled); }
  if (settings.tagManager) { listenToTagManager(); }

  var script = document.createElement('script');
  script.async = true;
  script.src = settings.url + 'matomo.js';
  document.head.appendChild(script);
}());
