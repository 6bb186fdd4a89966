<?php

declare(strict_types=1);

namespace Standin;

/** Pages for people, about which a client must not care, except that they are no data. */
final class Page
{
    public static function show(string $title, string $body, int $status = 200): never
    {
        http_response_code($status);
        header('Content-Type: text/html; charset=utf-8');
        echo "<!DOCTYPE html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>$title</title></head><body>"
            . "<h1>$title</h1>$body<p><small>A stand-in for tests, not Matomo.</small></p></body></html>";
        exit;
    }

    public static function alert(string $title, string $message, int $status = 200): never
    {
        self::show($title, '<div class="alert alert-danger">' . htmlspecialchars($message) . '</div>', $status);
    }

    public static function failure(\Throwable $error): never
    {
        error_log((string) $error);
        self::alert('Error', $error->getMessage(), 500);
    }

    public static function redirect(string $location): never
    {
        http_response_code(302);
        header("Location: $location");
        header('Content-Type: text/html; charset=utf-8');
        exit;
    }
}
