<?php

declare(strict_types=1);

namespace Standin;

/** Sites, with the original's carelessness: twice the same address makes two of them. */
final class Sites
{
    /** Column, and the parameter of the API that an update empties when it is left out. */
    private const RESET = ['sitesearch_keyword_parameters' => 'searchKeywordParameters',
        'sitesearch_category_parameters' => 'searchCategoryParameters', 'excluded_ips' => 'excludedIps',
        'excluded_parameters' => 'excludedQueryParameters', 'excluded_user_agents' => 'excludedUserAgents'];
    private const KEEP = ['ecommerce' => 'ecommerce', 'sitesearch' => 'siteSearch', 'timezone' => 'timezone',
        'currency' => 'currency', 'exclude_unknown_urls' => 'excludeUnknownUrls', 'group' => 'group', 'type' => 'type',
        'keep_url_fragment' => 'keepURLFragments'];
    private const CURRENCIES = ['EUR' => 'Euro', 'GBP' => 'British Pound', 'USD' => 'US Dollar',
        'CHF' => 'Swiss Franc', 'BRL' => 'Brazilian Real', 'PLN' => 'Polish Zloty', 'JPY' => 'Japanese Yen'];
    private const BY_COUNTRY = ['GB' => 'GBP', 'US' => 'USD', 'CH' => 'CHF', 'BR' => 'BRL', 'PL' => 'PLN', 'JP' => 'JPY'];

    /** @param array<mixed> $parameters of the API @param list<string> $urls */
    public static function add(string $name, array $urls, array $parameters, string $creator): int
    {
        $row = self::checked($name, $urls, $parameters);
        $row += ['timezone' => 'UTC', 'currency' => self::currencyOf((string) ($row['timezone'] ?? 'UTC'))];
        $id = Database::insert('site', $row + ['ts_created' => gmdate('Y-m-d H:i:s'), 'creator_login' => $creator]);
        self::saveAliases($id, $urls);
        return $id;
    }

    /** @param array<mixed> $parameters @param list<string>|null $urls */
    public static function update(int $id, ?string $name, ?array $urls, array $parameters): void
    {
        $old = self::find($id);
        $row = self::checked($name ?? $old['name'], $urls ?? self::urls($id), $parameters);
        $sets = implode(', ', array_map(static fn ($column) => "`$column` = ?", array_keys($row)));
        Database::run("UPDATE {site} SET $sets WHERE idsite = ?", [...array_values($row), $id]);
        if ($urls !== null) {
            self::saveAliases($id, $urls);
        }
    }

    public static function delete(int $id): void
    {
        if (!Database::value('SELECT 1 FROM {site} WHERE idsite = ?', [$id])) {
            throw new ApiError("website id = $id not found");
        }
        if (Database::value('SELECT COUNT(*) FROM {site}') == 1) {
            throw new ApiError('It is not possible to delete this website as it is the only registered website. Add a '
                . 'new website first, then delete this one.');
        }
        Database::run('DELETE FROM {site} WHERE idsite = ?', [$id]);
        Database::run('DELETE FROM {site_url} WHERE idsite = ?', [$id]);
    }

    /** @return array<string, mixed> */
    public static function find(int $id): array
    {
        $row = Database::run('SELECT * FROM {site} WHERE idsite = ?', [$id])->fetch();
        if (!$row) {
            throw new ApiError("An unexpected website was found in the request: website id was set to '$id' .");
        }
        return self::described($row);
    }

    /** @return list<array<string, mixed>> */
    public static function all(): array
    {
        return array_map(self::described(...), Database::run('SELECT * FROM {site} ORDER BY idsite')->fetchAll());
    }

    /** @return list<string> */
    public static function urls(int $id): array
    {
        $aliases = Database::run('SELECT url FROM {site_url} WHERE idsite = ?', [$id])->fetchAll(\PDO::FETCH_COLUMN);
        return [(string) self::find($id)['main_url'], ...$aliases];
    }

    /** Whatever the scheme, and with or without www. @return list<array{idsite: int}> */
    public static function byUrl(string $url): array
    {
        $rest = (string) preg_replace('~^https?://(www\.)?~', '', rtrim($url, '/'));
        $forms = ["http://$rest", "https://$rest", "http://www.$rest", "https://www.$rest"];
        $sql = 'SELECT idsite FROM {site} WHERE main_url IN (?, ?, ?, ?) UNION
            SELECT idsite FROM {site_url} WHERE url IN (?, ?, ?, ?) ORDER BY idsite';
        $found = Database::run($sql, [...$forms, ...$forms])->fetchAll(\PDO::FETCH_COLUMN);
        return array_map(static fn ($id) => ['idsite' => (int) $id], $found);
    }

    /** @return array<string, array<string, string>> */
    public static function timezones(): array
    {
        $groups = [];
        foreach (\DateTimeZone::listIdentifiers() as $zone) {
            [$group, $city] = explode('/', $zone, 2) + [1 => $zone];
            if ($group !== 'UTC') {
                $groups[$group][$zone] = str_replace('_', ' ', $city);
            }
        }
        foreach (range(-12, 14) as $hours) {
            $name = 'UTC' . ($hours ? sprintf('%+d', $hours) : '');
            $groups['UTC'][$name] = $name;
        }
        return $groups;
    }

    /** @param list<string> $urls @param array<mixed> $parameters @return array<string, mixed> */
    private static function checked(string $name, array $urls, array $parameters): array
    {
        if (trim($name) === '') {
            throw new ApiError('The site name can\'t be empty.');
        }
        if (!$urls) {
            throw new ApiError('You must specify at least one URL for the site.');
        }
        foreach ($urls as $url) {
            if (!preg_match('~^[a-z][a-z0-9+.-]*://[^\s/?#]+~i', $url)) {
                throw new ApiError("The url '$url' is not a valid URL.");
            }
        }
        $row = ['name' => $name, 'main_url' => rtrim($urls[0], '/')];
        foreach (self::RESET as $column => $parameter) {
            $row[$column] = (string) ($parameters[$parameter] ?? '');
        }
        foreach (self::KEEP as $column => $parameter) {
            if (($parameters[$parameter] ?? '') !== '') {
                $row[$column] = $parameters[$parameter];
            }
        }
        $zone = $row['timezone'] ?? 'UTC';
        if (!array_filter(self::timezones(), static fn ($group) => isset($group[$zone]))) {
            throw new ApiError("The timezone \"$zone\" is not valid. Please enter a valid timezone.");
        }
        if (!isset(self::CURRENCIES[$row['currency'] ?? 'EUR'])) {
            throw new ApiError("The currency \"{$row['currency']}\" is not valid. Please enter a valid currency symbol "
                . '(eg. USD, EUR, etc.)');
        }
        return $row;
    }

    /** @param list<string> $urls */
    private static function saveAliases(int $id, array $urls): void
    {
        Database::run('DELETE FROM {site_url} WHERE idsite = ?', [$id]);
        foreach (array_unique(array_slice($urls, 1)) as $url) {
            Database::insert('site_url', ['idsite' => $id, 'url' => rtrim($url, '/')]);
        }
    }

    /** @param array<string, mixed> $row @return array<string, mixed> */
    private static function described(array $row): array
    {
        $country = self::country($row['timezone']);
        $row['timezone_name'] = $country ? \Locale::getDisplayRegion("-$country", 'en') : $row['timezone'];
        $row['currency_name'] = self::CURRENCIES[$row['currency']] ?? $row['currency'];
        return $row;
    }

    private static function country(string $zone): string
    {
        if (!in_array($zone, \DateTimeZone::listIdentifiers(), true)) {
            return '';
        }
        return trim((string) ((new \DateTimeZone($zone))->getLocation()['country_code'] ?? ''), '?');
    }

    private static function currencyOf(string $zone): string
    {
        return self::BY_COUNTRY[self::country($zone)] ?? (self::country($zone) ? 'EUR' : 'USD');
    }
}
