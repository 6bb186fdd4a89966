<?php

declare(strict_types=1);

namespace Standin;

/** The HTTP API, in JSON: the methods that clients of this collection call, and those that were recorded. */
final class Api
{
    public static function answer(): never
    {
        Access::identify();
        $method = (string) Request::get('method', '');
        try {
            $result = self::call($method);
            if ($result === null) {
                self::say(['result' => 'success', 'message' => 'ok']);
            }
            self::say(is_array($result) ? $result : ['value' => $result]);
        } catch (ApiError $error) {
            self::say(['result' => 'error', 'message' => $error->getMessage()]);
        }
    }

    /** @param array<mixed> $data */
    public static function say(array $data): never
    {
        header('Content-Type: application/json; charset=utf-8');
        echo json_encode($data, JSON_UNESCAPED_UNICODE);
        exit;
    }

    /** @return mixed null for a plain success */
    private static function call(string $method)
    {
        return match ($method) {
            'API.getMatomoVersion', 'API.getPiwikVersion' => self::seen(\Piwik\Version::VERSION),
            'UsersManager.createAppSpecificTokenAuth' => Access::createToken(self::need('userLogin'),
                self::need('passwordConfirmation'), self::need('description')),
            'UsersManager.hasSuperUserAccess' => Access::$superUser,
            default => self::asSuperUser($method),
        };
    }

    /** @return mixed */
    private static function asSuperUser(string $method)
    {
        $known = (new \ReflectionClass(self::class))->getConstant('METHODS');
        [$plugin] = explode('.', $method, 2);
        if (!isset($known[$method])) {
            throw new ApiError(array_filter(array_keys($known), static fn ($name) => str_starts_with($name, "$plugin."))
                ? "The method '$method' does not exist or is not available in the module '$plugin'."
                : "The plugin $plugin is not enabled. You can activate the plugin on Settings &gt; Plugins page in Matomo.");
        }
        Access::needSuperUser();
        return self::{$known[$method]}();
    }

    private const METHODS = [
        'SitesManager.getAllSites' => 'getAllSites', 'SitesManager.getSiteFromId' => 'getSite',
        'SitesManager.getSitesIdFromSiteUrl' => 'getSitesByUrl', 'SitesManager.getSiteUrlsFromId' => 'getSiteUrls',
        'SitesManager.getTimezonesList' => 'getTimezones', 'SitesManager.addSite' => 'addSite',
        'SitesManager.updateSite' => 'updateSite', 'SitesManager.deleteSite' => 'deleteSite',
        'SitesManager.getJavascriptTag' => 'getJavascriptTag', 'UsersManager.addUser' => 'addUser',
        'UsersManager.userExists' => 'userExists', 'UsersManager.setUserAccess' => 'setUserAccess',
        'PrivacyManager.setAnonymizeIpSettings' => 'setAnonymizeIp',
        'PrivacyManager.setDeleteLogsSettings' => 'setDeleteLogs',
        'PrivacyManager.executeDataPurge' => 'executeDataPurge',
        'PrivacyManager.activateDoNotTrack' => 'activateDoNotTrack',
        'PrivacyManager.deactivateDoNotTrack' => 'deactivateDoNotTrack',
        'CoreAdminHome.setArchiveSettings' => 'setArchiveSettings', 'VisitsSummary.get' => 'visitsSummary',
        'Actions.get' => 'visitsSummary',
    ];

    private static function seen(string $version): string
    {
        Access::needView();
        return $version;
    }

    private static function need(string $name): string
    {
        $value = Request::get($name);
        if ($value === null || $value === '') {
            throw new ApiError("Please specify a value for '$name'.");
        }
        return (string) $value;
    }

    /** @return list<string>|null */
    private static function urls(): ?array
    {
        $urls = Request::get('urls');
        return $urls === null ? null : array_values(array_map('strval', (array) $urls));
    }

    /** @return list<array<string, mixed>> */
    private static function getAllSites(): array
    {
        return Sites::all();
    }

    /** @return array<string, mixed> */
    private static function getSite(): array
    {
        return Sites::find((int) self::need('idSite'));
    }

    /** @return list<array{idsite: int}> */
    private static function getSitesByUrl(): array
    {
        return Sites::byUrl(self::need('url'));
    }

    /** @return list<string> */
    private static function getSiteUrls(): array
    {
        return Sites::urls((int) self::need('idSite'));
    }

    /** @return array<string, array<string, string>> */
    private static function getTimezones(): array
    {
        return Sites::timezones();
    }

    private static function addSite(): int
    {
        return Sites::add(self::need('siteName'), self::urls() ?? [], $_POST + $_GET, (string) Access::$login);
    }

    private static function updateSite(): null
    {
        Sites::update((int) self::need('idSite'), Request::get('siteName'), self::urls(), $_POST + $_GET);
        return null;
    }

    private static function deleteSite(): null
    {
        Sites::delete((int) self::need('idSite'));
        return null;
    }

    private static function getJavascriptTag(): string
    {
        $id = (int) Sites::find((int) self::need('idSite'))['idsite'];
        $pushes = (Request::get('doNotTrack') ? "  _paq.push([\"setDoNotTrack\", true]);\n" : '')
            . (Request::get('disableCookies') ? "  _paq.push([\"disableCookies\"]);\n" : '');
        $host = (string) Request::get('piwikUrl', $_SERVER['HTTP_HOST']);
        return htmlspecialchars("<!-- Matomo -->\n<script>\n  var _paq = window._paq = window._paq || [];\n$pushes"
            . "  _paq.push(['trackPageView']);\n  _paq.push(['enableLinkTracking']);\n  (function() {\n"
            . "    var u=\"//$host/\";\n    _paq.push(['setTrackerUrl', u+'matomo.php']);\n"
            . "    _paq.push(['setSiteId', '$id']);\n    var d=document, g=d.createElement('script'), "
            . "s=d.getElementsByTagName('script')[0];\n    g.async=true; g.src=u+'matomo.js'; "
            . "s.parentNode.insertBefore(g,s);\n  })();\n</script>\n<noscript><p><img referrerpolicy="
            . "\"no-referrer-when-downgrade\" src=\"//$host/matomo.php?idsite=$id&amp;rec=1\" style=\"border:0;\" "
            . "alt=\"\" /></p></noscript>\n<!-- End Matomo Code -->");
    }

    private static function addUser(): null
    {
        Access::addUser(self::need('userLogin'), self::need('password'), self::need('email'));
        return null;
    }

    private static function userExists(): bool
    {
        return (bool) Database::value('SELECT 1 FROM {user} WHERE login = ?', [self::need('userLogin')]);
    }

    private static function setUserAccess(): null
    {
        foreach (explode(',', self::need('idSites')) as $id) {
            Database::run('REPLACE INTO {access} (login, idsite, access) VALUES (?, ?, ?)',
                [self::need('userLogin'), (int) $id, self::need('access')]);
        }
        return null;
    }

    private static function setAnonymizeIp(): bool
    {
        $enable = self::need('anonymizeIPEnable');
        Privacy::set('ipAddressMaskLength', (string) (int) self::need('maskLength'));
        Privacy::set('useAnonymizedIpForVisitEnrichment', self::need('useAnonymizedIpForVisitEnrichment') ? '1' : '0');
        if (in_array($enable, ['0', '1'], true)) {
            Privacy::set('ipAnonymizerEnabled', $enable);
        }
        // Left out, it is emptied; the others keep what they have.
        Privacy::set('anonymizeReferrer', (string) Request::get('anonymizeReferrer', ''));
        foreach (['anonymizeUserId', 'anonymizeOrderId', 'forceCookielessTracking'] as $name) {
            if (Request::get($name) !== null) {
                Privacy::set($name, Request::get($name) ? '1' : '0');
            }
        }
        if (Request::get('forceCookielessTracking') !== null) {
            Privacy::rewriteTracker();
        }
        return true;
    }

    private static function setDeleteLogs(): bool
    {
        self::needPurgeSettings();
        Database::setOption('delete_logs_enable', Request::get('enableDeleteLogs') ? '1' : '0');
        Database::setOption('delete_logs_older_than', (string) max(1, (int) Request::get('deleteLogsOlderThan', 180)));
        return true;
    }

    private static function executeDataPurge(): null
    {
        self::needPurgeSettings();
        Archive::purgeByRetention();
        return null;
    }

    private static function needPurgeSettings(): void
    {
        Access::confirmPassword((string) Request::get('passwordConfirmation', ''));
        if (!Settings::get('General', 'enable_delete_old_data_settings_admin')) {
            throw new ApiError('Configuring deleting raw data and report data has been disabled by Matomo admins.');
        }
    }

    private static function activateDoNotTrack(): bool
    {
        Privacy::set('doNotTrackEnabled', '1');
        return true;
    }

    private static function deactivateDoNotTrack(): bool
    {
        Privacy::set('doNotTrackEnabled', '0');
        return true;
    }

    private static function setArchiveSettings(): bool
    {
        Database::setOption('enableBrowserTriggerArchiving', self::need('enableBrowserTriggerArchiving') ? '1' : '0');
        Database::setOption('todayArchiveTimeToLive', (string) (int) self::need('todayArchiveTimeToLive'));
        return true;
    }

    /** @return array<string, int> */
    private static function visitsSummary(): array
    {
        return Archive::numbers((int) self::need('idSite'), new \DateTimeImmutable((string) Request::get('date', 'today')));
    }
}
