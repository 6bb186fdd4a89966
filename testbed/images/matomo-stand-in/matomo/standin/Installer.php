<?php

declare(strict_types=1);

namespace Standin;

/** The wizard: open to everybody, without a session, each step skipping itself once it is done. */
final class Installer
{
    public const STEPS = ['welcome', 'systemCheck', 'databaseSetup', 'tablesCreation', 'reuseTables', 'setupSuperUser',
        'firstWebsiteSetup', 'trackingCode', 'finished'];

    public static function answer(string $action): never
    {
        if (!in_array($action, self::STEPS, true)) {
            self::page('Welcome', '<p>Welcome to the installation.</p>');
        }
        $posted = $_SERVER['REQUEST_METHOD'] === 'POST';
        match ($action) {
            'databaseSetup' => self::databaseSetup($posted),
            'tablesCreation', 'reuseTables' => self::tablesCreation(),
            'setupSuperUser' => self::setupSuperUser($posted),
            'firstWebsiteSetup' => self::firstWebsiteSetup($posted),
            'finished' => self::finished($posted),
            default => self::page($action, ''),
        };
    }

    private static function databaseSetup(bool $posted): never
    {
        $fields = ['host', 'username', 'password', 'dbname', 'tables_prefix', 'adapter'];
        if (!$posted) {
            $inputs = '';
            foreach ($fields as $name) {
                $value = getenv('MATOMO_DATABASE_' . strtoupper($name)) ?: '';
                $inputs .= "<input name=\"$name\" value=\"" . htmlspecialchars($value) . '">';
            }
            self::page('Database Setup', "<form method=\"post\">$inputs</form>");
        }
        $database = [];
        foreach ($fields as $name) {
            $database[$name] = trim((string) ($_POST[$name] ?? ''));
        }
        if (!in_array($database['adapter'], ['PDO\\MYSQL', 'MYSQLI'], true)) {
            self::refuse('Database Setup', "Adapter {$database['adapter']} is not valid.");
        }
        if (!preg_match('/^[A-Za-z0-9_.-]+$/', $database['dbname'])) {
            self::refuse('Database Setup', 'The database name is not valid.');
        }
        try {
            Database::connect($database);
        } catch (\PDOException $error) {
            self::refuse('Database Setup', 'Could not connect to the database: ' . $error->getMessage());
        }
        foreach ($database + ['schema' => (string) ($_POST['schema'] ?? 'Mysql')] as $name => $value) {
            Settings::set('database', $name, $value);
        }
        if (!Settings::get('General', 'salt')) {
            Settings::set('General', 'salt', bin2hex(random_bytes(16)));
            Settings::set('General', 'trusted_hosts', [$_SERVER['HTTP_HOST'] ?? 'localhost']);
        }
        Settings::set('General', 'installation_in_progress', 1);
        Settings::save();
        self::next('tablesCreation');
    }

    private static function tablesCreation(): never
    {
        self::needsDatabase();
        $again = self::hasTables();
        Database::createTables();
        self::page('Creating the Tables', $again
            ? '<p>Some Matomo tables are already installed in your database.</p>' : '<p>Tables created with success!</p>');
    }

    private static function setupSuperUser(bool $posted): never
    {
        self::needsTables();
        Database::locked('superuser', static function () use ($posted): void {
            if (Database::value('SELECT COUNT(*) FROM {user} WHERE superuser_access = 1')) {
                return;
            }
            $post = array_map('strval', $_POST);
            $mistake = match (true) {
                !$posted => '',
                strlen($post['password'] ?? '') < 6 => 'The password length must be between 6 and 80 characters.',
                ($post['password'] ?? '') !== ($post['password_bis'] ?? '') => 'Passwords do not match.',
                !filter_var($post['email'] ?? '', FILTER_VALIDATE_EMAIL) => 'The email doesn\'t have a valid format.',
                default => null,
            };
            if ($mistake !== null) {
                self::refuse('Superuser', $mistake);
            }
            Access::addUser($post['login'], $post['password'], $post['email'], superUser: true);
        });
        self::next('firstWebsiteSetup');
    }

    private static function firstWebsiteSetup(bool $posted): never
    {
        self::needsTables();
        $added = Database::locked('firstsite', static function () use ($posted): string {
            if (Database::value('SELECT COUNT(*) FROM {site}')) {
                return '';
            }
            if (!$posted) {
                self::refuse('Set up a Website', '');
            }
            try {
                $id = Sites::add((string) $_POST['siteName'], [(string) $_POST['url']], $_POST, 'anonymous');
            } catch (ApiError $error) {
                self::refuse('Set up a Website', $error->getMessage());
            }
            return "&site_idSite=$id&site_name=" . urlencode((string) $_POST['siteName']);
        });
        self::next($added ? 'trackingCode' : 'finished', $added);
    }

    private static function finished(bool $posted): never
    {
        self::needsTables();
        if (!$posted) {
            self::page('Congratulations', '<form method="post"></form>');
        }
        Privacy::set('ipAnonymizerEnabled', empty($_POST['anonymise_ip']) ? '0' : '1');
        // Recorded: of the privacy options of this form only the one for addresses was kept.
        Settings::set('General', 'installation_in_progress', null);
        Settings::save();
        Page::redirect('index.php');
    }

    private static function next(string $step, string $more = ''): never
    {
        Page::redirect("index.php?action=$step&module=Installation$more");
    }

    private static function hasTables(): bool
    {
        $name = Settings::get('database', 'tables_prefix') . 'option';
        return (bool) Database::value('SELECT 1 FROM information_schema.tables WHERE table_schema = ?
            AND table_name = ?', [Settings::get('database', 'dbname'), $name]);
    }

    private static function needsDatabase(): void
    {
        if (!Settings::exists()) {
            self::next('databaseSetup');
        }
    }

    private static function needsTables(): void
    {
        self::needsDatabase();
        if (!self::hasTables()) {
            self::next('tablesCreation');
        }
    }

    private static function refuse(string $title, string $message): never
    {
        self::page($title, $message === '' ? '<form method="post"></form>'
            : '<div class="alert alert-danger">' . htmlspecialchars($message) . '</div>');
    }

    private static function page(string $title, string $body): never
    {
        // The original's pages carry their styles and are 150 KB: nobody may take that for data.
        Page::show($title, "$body<style>/*" . str_repeat(' ', 150_000) . '*/</style>');
    }
}
