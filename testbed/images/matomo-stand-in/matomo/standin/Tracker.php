<?php

declare(strict_types=1);

namespace Standin;

/** matomo.php: takes hits and writes them to the tables the original writes to. */
final class Tracker
{
    private const PAGE = 1, OUTLINK = 2, DOWNLOAD = 3, TITLE = 4, EVENT_CATEGORY = 10, EVENT_ACTION = 11, EVENT_NAME = 12;
    private const PREFIXES = ['https://www.' => 3, 'http://www.' => 1, 'https://' => 2, 'http://' => 0];
    private const GIF = 'R0lGODlhAQABAIAAAAAAAAAAACH5BAEAAAAALAAAAAABAAEAAAICRAEAOw==';

    public static function answer(): void
    {
        header('Content-Type: text/html; charset=utf-8');
        header('Access-Control-Allow-Origin: *');
        if ($_SERVER['REQUEST_METHOD'] === 'OPTIONS') {
            header('Access-Control-Allow-Methods: GET, POST');
            http_response_code(204);
            return;
        }
        if (!Settings::installed()) {
            echo 'As Matomo is not installed yet, the Tracking API cannot proceed and will exit without error.';
            return;
        }
        $body = (string) file_get_contents('php://input');
        if (str_starts_with(ltrim($body), '{')) {
            self::bulk($body);
            return;
        }
        // A beacon may carry its parameters as a query, question mark included.
        if (!$_POST && $body !== '') {
            parse_str(ltrim($body, '?'), $_POST);
        }
        $hit = array_filter($_POST + $_GET, 'is_scalar');
        if (!$hit) {
            echo '<a href="/"><img src="plugins/Morpheus/images/logo.svg" title="Matomo is a free/libre web analytics '
                . 'platform that lets you keep control of your data." alt=""></a>'
                . '<p>This resource is part of a stand-in for Matomo, which only tests may use.</p>';
            return;
        }
        if (!self::record($hit)) {
            http_response_code(400);
            echo 'The website of this hit does not exist, or it has no address.';
            return;
        }
        if (($hit['send_image'] ?? '1') === '0') {
            header_remove('Content-Type');
            ini_set('default_mimetype', '');
            http_response_code(204);
            return;
        }
        header('Content-Type: image/gif');
        echo base64_decode(self::GIF);
    }

    private static function bulk(string $body): void
    {
        $data = json_decode($body, true);
        $tracked = $invalid = 0;
        foreach ($data['requests'] ?? [] as $request) {
            parse_str(ltrim(is_string($request) ? $request : http_build_query($request), '?'), $hit);
            self::record($hit) ? $tracked++ : $invalid++;
        }
        header('Content-Type: application/json');
        echo json_encode(['status' => 'success', 'tracked' => $tracked, 'invalid' => $invalid]);
    }

    /** @param array<string, mixed> $hit @return bool false for a hit that belongs nowhere */
    private static function record(array $hit): bool
    {
        $site = (int) ($hit['idsite'] ?? 0);
        $row = Database::run('SELECT * FROM {site} WHERE idsite = ?', [$site])->fetch();
        if (!$row) {
            return false;
        }
        if (($hit['rec'] ?? '') !== '1' || self::excluded($row, (string) ($hit['url'] ?? ''))) {
            return true;
        }
        $now = gmdate('Y-m-d H:i:s');
        $address = Privacy::shorten(Request::address());
        $browser = ($hit['ua'] ?? $_SERVER['HTTP_USER_AGENT'] ?? '') . ($_SERVER['HTTP_ACCEPT_LANGUAGE'] ?? '');
        // As a fingerprint has to: it holds for a day and cannot be turned back.
        $salt = Settings::get('General', 'salt') . gmdate('Y-m-d') . $site;
        $config = substr(hash('sha256', $salt . $address . $browser . ($hit['res'] ?? ''), true), 0, 8);
        $given = preg_match('/^[0-9a-f]{16}$/', (string) ($hit['_id'] ?? ''))
            && Privacy::get('forceCookielessTracking') !== '1';
        $visitor = $given ? (string) hex2bin((string) $hit['_id']) : $config;
        $since = gmdate('Y-m-d H:i:s', time() - (int) Settings::get('Tracker', 'visit_standard_length'));
        $visit = Database::run('SELECT idvisit, idvisitor, visit_first_action_time FROM {log_visit} WHERE idsite = ?
            AND visit_last_action_time > ? AND (idvisitor = ? OR config_id = ?) ORDER BY idvisit DESC LIMIT 1',
            [$site, $since, $visitor, $config])->fetch();
        if (!$visit) {
            $columns = ['idsite' => $site, 'idvisitor' => $visitor, 'config_id' => $config, 'location_ip' => $address,
                'visit_first_action_time' => $now, 'visit_last_action_time' => $now, 'user_id' => self::userId($hit),
                'referer_url' => substr((string) ($hit['urlref'] ?? ''), 0, 1500),
                'config_resolution' => substr((string) ($hit['res'] ?? ''), 0, 18)];
            if (version_compare(\Piwik\Version::VERSION, '5.14.0', '>=')) {
                $columns['profilable'] = (int) $given;
            }
            $visit = ['idvisit' => Database::insert('log_visit', $columns), 'visit_first_action_time' => $now];
        }
        $event = isset($hit['e_c'], $hit['e_a']);
        $ping = ($hit['ping'] ?? '') === '1';
        if (!$ping) {
            self::action($hit, $site, (int) $visit['idvisit'], $visitor, $now);
        }
        Database::run('UPDATE {log_visit} SET visit_last_action_time = ?, visit_total_actions = visit_total_actions + ?,
            visit_total_events = visit_total_events + ?, visit_total_time = TIMESTAMPDIFF(SECOND, ?, ?) WHERE idvisit = ?',
            [$now, $ping || $event ? 0 : 1, $event && !$ping ? 1 : 0, $visit['visit_first_action_time'], $now,
                $visit['idvisit']]);
        return true;
    }

    /** @param array<string, mixed> $hit */
    private static function action(array $hit, int $site, int $visit, string $visitor, string $now): void
    {
        $row = ['idsite' => $site, 'idvisitor' => $visitor, 'idvisit' => $visit, 'server_time' => $now,
            'idpageview' => substr((string) ($hit['pv_id'] ?? ''), 0, 6) ?: null];
        if (isset($hit['e_c'], $hit['e_a'])) {
            $row['idaction_event_category'] = self::actionId((string) $hit['e_c'], self::EVENT_CATEGORY);
            $row['idaction_event_action'] = self::actionId((string) $hit['e_a'], self::EVENT_ACTION);
            $row['idaction_url'] = self::urlId((string) ($hit['url'] ?? ''), self::PAGE);
            if (($hit['e_n'] ?? '') !== '') {
                $row['idaction_name'] = self::actionId((string) $hit['e_n'], self::EVENT_NAME);
            }
            $row['custom_float'] = is_numeric($hit['e_v'] ?? null) ? (float) $hit['e_v'] : null;
        } elseif (isset($hit['download'])) {
            $row['idaction_url'] = self::urlId((string) $hit['download'], self::DOWNLOAD);
        } elseif (isset($hit['link'])) {
            $row['idaction_url'] = self::urlId((string) $hit['link'], self::OUTLINK);
        } else {
            $row['idaction_url'] = self::urlId((string) ($hit['url'] ?? ''), self::PAGE);
            $row['idaction_name'] = self::actionId((string) ($hit['action_name'] ?? ''), self::TITLE);
        }
        Database::insert('log_link_visit_action', $row);
    }

    /** @param array<string, mixed> $site */
    private static function excluded(array $site, string $url): bool
    {
        $asked = ($_SERVER['HTTP_DNT'] ?? '') === '1' && Privacy::get('doNotTrackEnabled') === '1';
        if ($asked || isset($_COOKIE[Settings::get('Tracker', 'ignore_visits_cookie_name')])) {
            return true;
        }
        if (in_array(Request::address(), array_filter(explode(',', $site['excluded_ips'])), true)) {
            return true;
        }
        foreach (array_filter(explode(',', $site['excluded_user_agents'])) as $part) {
            if (stripos($_SERVER['HTTP_USER_AGENT'] ?? '', $part) !== false) {
                return true;
            }
        }
        if (!Settings::get('Tracker', 'record_statistics')) {
            return true;
        }
        $host = static fn ($one) => preg_replace('/^www\./', '', (string) parse_url($one, PHP_URL_HOST));
        $hosts = array_map($host, Sites::urls((int) $site['idsite']));
        return $site['exclude_unknown_urls'] && !in_array($host($url), $hosts, true);
    }

    /** @param array<string, mixed> $hit */
    private static function userId(array $hit): ?string
    {
        $user = (string) ($hit['uid'] ?? '');
        if ($user === '') {
            return null;
        }
        return Privacy::get('anonymizeUserId') === '1' ? sha1(Settings::get('General', 'salt') . $user) : $user;
    }

    private static function urlId(string $url, int $type): int
    {
        $url = explode('#', $url, 2)[0];
        foreach (self::PREFIXES as $prefix => $number) {
            if (str_starts_with($url, $prefix)) {
                return self::actionId(substr($url, strlen($prefix)), $type, $number);
            }
        }
        return self::actionId($url, $type);
    }

    private static function actionId(string $name, int $type, ?int $prefix = null): int
    {
        $hash = crc32($name);
        $known = Database::value('SELECT idaction FROM {log_action} WHERE type = ? AND hash = ? AND name = ?
            ORDER BY idaction LIMIT 1', [$type, $hash, $name]);
        return (int) ($known ?? Database::insert('log_action',
            ['name' => substr($name, 0, 4096), 'hash' => $hash, 'type' => $type, 'url_prefix' => $prefix]));
    }
}
