<?php

declare(strict_types=1);

namespace Standin;

/** What a request says about itself. */
final class Request
{
    /** @return mixed */
    public static function get(string $name, mixed $default = null)
    {
        return $_POST[$name] ?? $_GET[$name] ?? $default;
    }

    public static function secure(): bool
    {
        return ($_SERVER['HTTPS'] ?? '') === 'on' || strtolower($_SERVER['HTTP_X_FORWARDED_PROTO'] ?? '') === 'https'
            || (bool) Settings::get('General', 'assume_secure_protocol');
    }

    /** The last address of the header that the configuration trusts, so that a visitor cannot invent one. */
    public static function address(): string
    {
        foreach ((array) (Settings::get('General', 'proxy_client_headers') ?? []) as $header) {
            $list = array_filter(array_map('trim', explode(',', $_SERVER[$header] ?? '')));
            $last = end($list);
            if ($last !== false && filter_var($last, FILTER_VALIDATE_IP)) {
                return $last;
            }
        }
        return $_SERVER['REMOTE_ADDR'] ?? '0.0.0.0';
    }
}
