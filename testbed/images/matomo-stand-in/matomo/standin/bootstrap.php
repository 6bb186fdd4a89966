<?php

declare(strict_types=1);

namespace Standin;

const ROOT = __DIR__ . '/..';

ini_set('display_errors', PHP_SAPI === 'cli' ? 'stderr' : '0');
ini_set('log_errors', '1');
date_default_timezone_set('UTC');
require ROOT . '/core/Version.php';
spl_autoload_register(static function (string $class): void {
    require __DIR__ . '/' . str_replace('Standin\\', '', $class) . '.php';
});
set_exception_handler(static function (\Throwable $error): void {
    if (PHP_SAPI === 'cli') {
        fwrite(STDERR, "\n  " . $error->getMessage() . "\n\n");
        exit(1);
    }
    Page::failure($error);
});
