<?php

declare(strict_types=1);

namespace Standin;

/** Users, tokens, and the lock against guessing. */
final class Access
{
    private const FAILURES = 20;
    private const MINUTES = 60;

    public static ?string $login = null;
    public static bool $superUser = false;

    /** Find out who asks; a page, not data, for those whose token is no good. */
    public static function identify(): void
    {
        $token = (string) Request::get('token_auth', '');
        if ($token === '' || $token === 'anonymous') {
            return;
        }
        self::refuseTheBlocked();
        $row = Database::run('SELECT t.login, u.superuser_access FROM {user_token_auth} t JOIN {user} u
            ON u.login = t.login WHERE t.password = ? AND (t.date_expired IS NULL OR t.date_expired > NOW())',
            [self::hash($token)])->fetch();
        $secure = isset($_POST['token_auth']) || !Settings::get('General', 'only_allow_secure_auth_tokens');
        if (!$row || !$secure) {
            self::noteFailure(null);
            Page::alert('Error', 'Unable to authenticate with the provided token. It is either invalid, expired or is '
                . 'required to be sent as a POST parameter.', 401);
        }
        [self::$login, self::$superUser] = [$row['login'], (bool) $row['superuser_access']];
        Database::run('UPDATE {user_token_auth} SET last_used = NOW() WHERE password = ?', [self::hash($token)]);
    }

    public static function needSuperUser(): void
    {
        if (!self::$superUser) {
            http_response_code(401);
            throw new ApiError("You can't access this resource as it requires a 'superuser' access.");
        }
    }

    public static function needView(): void
    {
        $sites = 'SELECT COUNT(*) FROM {access} WHERE login = ?';
        if (!self::$superUser && !Database::value($sites, [self::$login ?? 'anonymous'])) {
            http_response_code(401);
            throw new ApiError("You can't access this resource as it requires view access for at least one website.");
        }
    }

    public static function createToken(string $login, string $password, string $description): string
    {
        self::refuseTheBlocked();
        $row = Database::run('SELECT login, password FROM {user} WHERE login = ? OR email = ?', [$login, $login])->fetch();
        if (!$row || !self::matches($password, $row['password'])) {
            self::noteFailure($login);
            throw new ApiError('The current password you entered is not correct.');
        }
        if ($description === '') {
            throw new ApiError("Please specify a value for 'description'.");
        }
        $token = bin2hex(random_bytes(16));
        Database::insert('user_token_auth', ['login' => $row['login'], 'description' => $description,
            'password' => self::hash($token), 'hash_algo' => 'sha512', 'date_created' => gmdate('Y-m-d H:i:s')]);
        return $token;
    }

    public static function confirmPassword(string $password): void
    {
        if ($password === '') {
            throw new ApiError('Please enter your password to confirm this change.');
        }
        self::refuseTheBlocked();
        $hash = (string) Database::value('SELECT password FROM {user} WHERE login = ?', [self::$login]);
        if (!self::matches($password, $hash)) {
            self::noteFailure(self::$login);
            throw new ApiError('The current password you entered is not correct.');
        }
    }

    public static function addUser(string $login, string $password, string $email, bool $superUser = false): void
    {
        if (Database::value('SELECT 1 FROM {user} WHERE login = ?', [$login])) {
            throw new ApiError("Username: Username '$login' already exists.");
        }
        if (strlen($password) < 6) {
            throw new ApiError('The password length must be between 6 and 80 characters.');
        }
        Database::insert('user', ['login' => $login, 'password' => password_hash(md5($password), PASSWORD_BCRYPT, ['cost' => 6]),
            'email' => $email, 'superuser_access' => (int) $superUser, 'date_registered' => gmdate('Y-m-d H:i:s'),
            'ts_password_modified' => gmdate('Y-m-d H:i:s')]);
    }

    private static function matches(string $password, string $hash): bool
    {
        return $hash !== '' && password_verify(md5($password), $hash);
    }

    private static function hash(string $token): string
    {
        return hash('sha512', $token . Settings::get('General', 'salt'));
    }

    private static function noteFailure(?string $login): void
    {
        Database::insert('brute_force_log', ['ip_address' => Request::address(), 'login' => $login,
            'attempted_at' => gmdate('Y-m-d H:i:s')]);
    }

    private static function refuseTheBlocked(): void
    {
        $failures = (int) Database::value('SELECT COUNT(*) FROM {brute_force_log} WHERE ip_address = ?
            AND attempted_at > ?', [Request::address(), gmdate('Y-m-d H:i:s', time() - 60 * self::MINUTES)]);
        if ($failures >= self::FAILURES) {
            Page::alert('Error', 'You are currently not allowed to log in because you had too many failed logins, '
                . 'try again later.', 403);
        }
    }
}
