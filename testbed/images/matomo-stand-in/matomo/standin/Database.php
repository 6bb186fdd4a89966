<?php

declare(strict_types=1);

namespace Standin;

/** MariaDB, and the tables as far as this program uses them, under the original's names. */
final class Database
{
    private static ?\PDO $connection = null;

    /** @param array<string, mixed>|null $settings those of the configuration unless given */
    public static function connect(?array $settings = null): \PDO
    {
        $db = $settings ?? Settings::section('database');
        [$host, $port] = explode(':', $db['host'] . ':', 3) + [1 => ''];
        $place = "mysql:host=$host;port=" . ($port ?: $db['port'] ?? 3306) . ";dbname={$db['dbname']};charset=utf8mb4";
        return new \PDO($place, $db['username'], $db['password'], [
            \PDO::ATTR_ERRMODE => \PDO::ERRMODE_EXCEPTION,
            \PDO::ATTR_DEFAULT_FETCH_MODE => \PDO::FETCH_ASSOC,
            \PDO::ATTR_TIMEOUT => 5,
            \PDO::MYSQL_ATTR_FOUND_ROWS => true,
        ]);
    }

    /** Run a statement in which {name} stands for a table; named or positional values. @param array<mixed> $values */
    public static function run(string $sql, array $values = []): \PDOStatement
    {
        self::$connection ??= self::connect();
        $prefix = (string) Settings::get('database', 'tables_prefix');
        $statement = self::$connection->prepare((string) preg_replace('/\{(\w+)\}/', '`' . $prefix . '$1`', $sql));
        $statement->execute($values);
        return $statement;
    }

    /** @param array<mixed> $values @return mixed */
    public static function value(string $sql, array $values = [])
    {
        $value = self::run($sql, $values)->fetchColumn();
        return $value === false ? null : $value;
    }

    /** @param array<string, mixed> $row */
    public static function insert(string $table, array $row): int
    {
        $columns = implode(', ', array_map(static fn ($name) => "`$name`", array_keys($row)));
        $marks = implode(', ', array_fill(0, count($row), '?'));
        self::run("INSERT INTO {{$table}} ($columns) VALUES ($marks)", array_values($row));
        return (int) self::$connection?->lastInsertId();
    }

    /** Keep others out while something is looked up and then made. */
    public static function locked(string $name, callable $work): mixed
    {
        $name = Settings::get('database', 'dbname') . ".$name";
        self::value('SELECT GET_LOCK(?, 30)', [$name]);
        try {
            return $work();
        } finally {
            self::value('SELECT RELEASE_LOCK(?)', [$name]);
        }
    }

    public static function option(string $name): ?string
    {
        $value = self::value('SELECT option_value FROM {option} WHERE option_name = ?', [$name]);
        return $value === null ? null : (string) $value;
    }

    public static function setOption(string $name, string $value): void
    {
        self::run('REPLACE INTO {option} (option_name, option_value, autoload) VALUES (?, ?, 1)', [$name, $value]);
    }

    /** The files are newer than the tables. */
    public static function outdated(): bool
    {
        return version_compare((string) self::option('version_core'), \Piwik\Version::VERSION, '<');
    }

    public static function createTables(): void
    {
        foreach (self::TABLES as $name => $columns) {
            self::run("CREATE TABLE IF NOT EXISTS {{$name}} ($columns) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4");
        }
        self::run("INSERT IGNORE INTO {user} (login, password, email, superuser_access, date_registered)
            VALUES ('anonymous', '', 'anonymous@example.org', 0, NOW())");
        if (self::option('version_core') === null) {
            self::migrate();
        }
    }

    /** Bring the tables to the version of the files. @return list<string> the statements that were needed */
    public static function migrate(): array
    {
        $done = [];
        foreach (self::MIGRATIONS as $version => $statement) {
            $new = version_compare($version, \Piwik\Version::VERSION, '<=');
            if ($new && version_compare($version, (string) self::option('version_core'), '>')) {
                self::run($statement);
                $done[] = $statement;
            }
        }
        self::setOption('version_core', \Piwik\Version::VERSION);
        return $done;
    }

    /** By the version that needs them: an upgrade of the files alone leaves a program that cannot track. */
    private const MIGRATIONS = [
        '5.14.0' => 'ALTER TABLE {log_visit} ADD COLUMN IF NOT EXISTS profilable TINYINT NULL',
    ];

    private const TABLES = [
        'option' => 'option_name VARCHAR(191) PRIMARY KEY, option_value LONGTEXT NOT NULL, autoload TINYINT DEFAULT 1',
        'user' => 'login VARCHAR(100) PRIMARY KEY, password VARCHAR(255) NOT NULL, email VARCHAR(100) NOT NULL UNIQUE,
            superuser_access TINYINT NOT NULL DEFAULT 0, date_registered TIMESTAMP NULL,
            ts_password_modified TIMESTAMP NULL',
        'user_token_auth' => 'idusertokenauth BIGINT UNSIGNED AUTO_INCREMENT PRIMARY KEY, login VARCHAR(100) NOT NULL,
            description VARCHAR(100) NOT NULL, password VARCHAR(191) NOT NULL UNIQUE, hash_algo VARCHAR(30) NOT NULL,
            system_token TINYINT NOT NULL DEFAULT 0, last_used DATETIME NULL, date_created DATETIME NOT NULL,
            date_expired DATETIME NULL, secure_only TINYINT NOT NULL DEFAULT 0',
        'access' => 'idaccess INT UNSIGNED AUTO_INCREMENT PRIMARY KEY, login VARCHAR(100) NOT NULL,
            idsite INT UNSIGNED NOT NULL, access VARCHAR(50) NULL, UNIQUE KEY login_site (login, idsite)',
        'site' => "idsite INT UNSIGNED AUTO_INCREMENT PRIMARY KEY, name VARCHAR(90) NOT NULL,
            main_url VARCHAR(255) NOT NULL, ts_created TIMESTAMP NULL, ecommerce TINYINT DEFAULT 0,
            sitesearch TINYINT DEFAULT 1, sitesearch_keyword_parameters TEXT NOT NULL DEFAULT '',
            sitesearch_category_parameters TEXT NOT NULL DEFAULT '', timezone VARCHAR(50) NOT NULL,
            currency CHAR(3) NOT NULL, exclude_unknown_urls TINYINT DEFAULT 0, excluded_ips TEXT NOT NULL DEFAULT '',
            excluded_parameters TEXT NOT NULL DEFAULT '', excluded_user_agents TEXT NOT NULL DEFAULT '',
            excluded_referrers TEXT NOT NULL DEFAULT '', `group` VARCHAR(250) NOT NULL DEFAULT '',
            `type` VARCHAR(255) NOT NULL DEFAULT 'website', keep_url_fragment TINYINT NOT NULL DEFAULT 0,
            creator_login VARCHAR(100) NULL",
        'site_url' => 'idsite INT UNSIGNED NOT NULL, url VARCHAR(190) NOT NULL, PRIMARY KEY (idsite, url)',
        'log_visit' => 'idvisit BIGINT UNSIGNED AUTO_INCREMENT PRIMARY KEY, idsite INT UNSIGNED NOT NULL,
            idvisitor BINARY(8) NOT NULL, visit_first_action_time DATETIME NOT NULL,
            visit_last_action_time DATETIME NOT NULL, config_id BINARY(8) NOT NULL, location_ip VARBINARY(16) NOT NULL,
            user_id VARCHAR(200) NULL, visit_total_actions INT UNSIGNED NOT NULL DEFAULT 0,
            visit_total_events INT UNSIGNED NOT NULL DEFAULT 0, visit_total_time INT UNSIGNED NOT NULL DEFAULT 0,
            referer_url VARCHAR(1500) NULL, config_resolution VARCHAR(18) NULL,
            INDEX site_time (idsite, visit_last_action_time), INDEX site_visitor (idsite, idvisitor)',
        'log_action' => 'idaction INT UNSIGNED AUTO_INCREMENT PRIMARY KEY, name VARCHAR(4096), hash INT UNSIGNED NOT NULL,
            type TINYINT UNSIGNED NULL, url_prefix TINYINT NULL, INDEX type_hash (type, hash)',
        'log_link_visit_action' => 'idlink_va BIGINT UNSIGNED AUTO_INCREMENT PRIMARY KEY, idsite INT UNSIGNED NOT NULL,
            idvisitor BINARY(8) NOT NULL, idvisit BIGINT UNSIGNED NOT NULL, idaction_url INT UNSIGNED NULL,
            idaction_name INT UNSIGNED NULL, idaction_event_category INT UNSIGNED NULL,
            idaction_event_action INT UNSIGNED NULL, custom_float DOUBLE NULL, idpageview CHAR(6) NULL,
            server_time DATETIME NOT NULL, INDEX visit (idvisit), INDEX site_time (idsite, server_time)',
        'brute_force_log' => 'id_brute_force_log BIGINT AUTO_INCREMENT PRIMARY KEY, ip_address VARCHAR(60) NULL,
            attempted_at DATETIME NOT NULL, login VARCHAR(100) NULL, INDEX address (ip_address)',
        'archive_invalidations' => 'idinvalidation BIGINT UNSIGNED AUTO_INCREMENT PRIMARY KEY, name VARCHAR(255) NOT NULL,
            idsite INT UNSIGNED NOT NULL, date1 DATE NOT NULL',
    ];
}
