<?php

declare(strict_types=1);

namespace Standin;

/** The configuration: defaults, then a shared file, then config.ini.php, which holds nothing but the exceptions. */
final class Settings
{
    private const FILE = ROOT . '/config/config.ini.php';

    /** @var array<string, array<string, mixed>>|null */
    private static ?array $own = null;
    /** @var array<string, array<string, mixed>>|null */
    private static ?array $defaults = null;

    public static function exists(): bool
    {
        return is_file(self::FILE);
    }

    public static function installed(): bool
    {
        return self::exists() && !self::get('General', 'installation_in_progress');
    }

    /** @return mixed */
    public static function get(string $section, string $name)
    {
        return self::section($section)[$name] ?? null;
    }

    /** @return array<string, mixed> */
    public static function section(string $section): array
    {
        self::load();
        return array_replace(self::$defaults[$section] ?? [], self::$own[$section] ?? []);
    }

    /** @param mixed $value null removes it */
    public static function set(string $section, string $name, $value): void
    {
        self::load();
        if ($value === null || self::text($value) === self::text(self::$defaults[$section][$name] ?? [])) {
            unset(self::$own[$section][$name]);
        } else {
            self::$own[$section][$name] = $value;
        }
    }

    public static function save(): void
    {
        $lines = ['; <?php exit; ?> DO NOT REMOVE THIS LINE',
            '; file automatically generated or modified by Matomo; you can manually override the default values in '
            . 'global.ini.php by redefining them in this file.'];
        foreach (self::$own ?? [] as $section => $values) {
            if (!$values) {
                continue;
            }
            $lines[] = "[$section]";
            foreach ($values as $name => $value) {
                foreach (is_array($value) ? $value : [null => $value] as $key => $one) {
                    $lines[] = $name . (is_array($value) ? '[]' : '') . ' = ' . self::line($one);
                }
            }
            $lines[] = '';
        }
        $draft = self::FILE . '.' . getmypid();
        if (@file_put_contents($draft, implode("\n", $lines)) === false) {
            throw new \RuntimeException('Matomo could not write config/config.ini.php: the folder is not writable.');
        }
        rename($draft, self::FILE);
    }

    /** @param mixed $value */
    private static function text($value): string
    {
        return (string) json_encode(is_array($value) ? array_map('strval', $value) : (string) $value);
    }

    private static function line(mixed $value): string
    {
        if (is_int($value) || is_bool($value) || ctype_digit((string) $value)) {
            return (string) (int) $value;
        }
        return '"' . str_replace('$', '&#36;', htmlentities((string) $value, ENT_COMPAT, 'UTF-8')) . '"';
    }

    private static function load(): void
    {
        if (self::$own !== null) {
            return;
        }
        self::$defaults = self::parse(ROOT . '/config/global.ini.php');
        foreach (self::parse(ROOT . '/config/common.config.ini.php') as $section => $values) {
            self::$defaults[$section] = array_replace(self::$defaults[$section] ?? [], $values);
        }
        self::$own = self::parse(self::FILE);
    }

    /** @return array<string, array<string, mixed>> */
    private static function parse(string $file): array
    {
        $decode = static fn ($value) => is_array($value)
            ? array_values(array_filter(array_map(static fn ($one) => html_entity_decode($one), $value), 'strlen'))
            : html_entity_decode((string) $value);
        $sections = is_file($file) ? parse_ini_file($file, true, INI_SCANNER_RAW) : [];
        return array_map(static fn ($values) => array_map($decode, (array) $values), $sections ?: []);
    }
}
