<?php

declare(strict_types=1);

namespace Standin;

/** The commands of ./console that running Matomo takes. */
final class Console
{
    /** @param list<string> $words */
    public static function main(array $words): int
    {
        [$options, $arguments] = [[], []];
        foreach ($words as $word) {
            if (preg_match('/^--?([a-zA-Z][\w-]*)(?:=(.*))?$/s', $word, $found)) {
                $options[$found[1]] = $found[2] ?? '1';
            } else {
                $arguments[] = $word;
            }
        }
        $command = array_shift($arguments) ?? 'list';
        $free = ['list', 'core:version', 'help'];
        if (!in_array($command, $free, true) && !Settings::installed()) {
            throw new \RuntimeException('Matomo is not installed yet: no config/config.ini.php, or it is unfinished.');
        }
        return match ($command) {
            'list', 'help' => self::say(implode("\n", self::COMMANDS)),
            'core:version' => self::say(\Piwik\Version::VERSION),
            'config:get' => self::configGet($arguments, $options),
            'config:set' => self::configSet($arguments, $options),
            'core:update' => self::update($options),
            'core:archive' => self::archive($options),
            'scheduled-tasks:run' => self::scheduledTasks(),
            'core:delete-logs-data' => self::deleteLogs($options),
            'login:unblock-blocked-ips' => self::unblock(),
            'diagnostics:run' => self::diagnostics(),
            'core:clear-caches', 'cache:clear', 'core:create-security-files' => self::say('Done.'),
            'custom-matomo-js:update', 'custom-piwik-js:update' => self::customJs(),
            default => throw new \RuntimeException("Command \"$command\" is not defined."),
        };
    }

    private const COMMANDS = ['Matomo, the stand-in', 'config:get', 'config:set', 'core:archive', 'core:clear-caches',
        'core:delete-logs-data', 'core:update', 'core:version', 'custom-matomo-js:update', 'diagnostics:run',
        'login:unblock-blocked-ips', 'scheduled-tasks:run'];

    private const PURGE = 'Piwik\Plugins\PrivacyManager\Tasks.deleteLogData';

    private static function say(string $text): int
    {
        echo $text, "\n";
        return 0;
    }

    /** @param list<string> $arguments @param array<string, string> $options */
    private static function configGet(array $arguments, array $options): int
    {
        $name = $arguments[0] ?? ($options['section'] ?? '') . (isset($options['key']) ? ".{$options['key']}" : '');
        [$section, $key] = explode('.', rtrim($name, '[]'), 2) + [1 => null];
        $value = $key === null ? Settings::section($section) : Settings::get($section, $key);
        // As the original: a zero is nothing, too.
        return self::say(empty($value) ? 'Nothing found' : (string) json_encode($value, JSON_UNESCAPED_SLASHES));
    }

    /** @param list<string> $arguments @param array<string, string> $options */
    private static function configSet(array $arguments, array $options): int
    {
        if (isset($options['section'], $options['key'])) {
            $arguments[] = "{$options['section']}.{$options['key']}=" . json_encode($options['value'] ?? '');
        }
        foreach ($arguments as $argument) {
            if (!preg_match('/^(\w+)\.(\w+)(\[\])?=(.*)$/s', $argument, $found)) {
                throw new \RuntimeException("Invalid assignment string '$argument': expected section.name=value or "
                    . 'section.name[]=value');
            }
            [, $section, $name, $append, $json] = $found;
            $value = json_decode($json, true, 4, JSON_THROW_ON_ERROR);
            if ($append) {
                $value = [...(array) (Settings::get($section, $name) ?? []), $value];
            }
            Settings::set($section, $name, $value);
            self::say("Setting [$section] $name" . $append . ' = ' . json_encode($value) . '... done.');
        }
        Settings::save();
        return 0;
    }

    /** @param array<string, string> $options */
    private static function update(array $options): int
    {
        if (!Database::outdated()) {
            return self::say('Everything is already up to date.');
        }
        $from = Database::option('version_core');
        self::say("*** Update ***\nDatabase Upgrade Required\nMatomo from version $from to " . \Piwik\Version::VERSION);
        if (!isset($options['yes']) && !isset($options['n']) && !isset($options['no-interaction'])) {
            throw new \RuntimeException('A dry run was made only: give --yes to execute the update.');
        }
        foreach (Database::migrate() as $statement) {
            self::say("Executing $statement... Done.");
        }
        return self::say('Matomo has been successfully updated!');
    }

    /** @param array<string, string> $options */
    private static function archive(array $options): int
    {
        if (Database::outdated()) {
            throw new \RuntimeException('Matomo and/or some plugins have been upgraded to a new version. Please run the '
                . 'update process first.');
        }
        $least = (int) Settings::get('General', 'minimum_memory_limit_when_archiving');
        if ((int) ini_get('memory_limit') < $least) {
            ini_set('memory_limit', "{$least}M");
        }
        self::say('INFO  Memory limit: ' . ini_get('memory_limit') . '. Archiving for ' . ($options['url'] ?? 'localhost'));
        $began = microtime(true);
        $count = Archive::all();
        self::say("INFO  Processed $count archives.");
        if (!isset($options['disable-scheduled-tasks'])) {
            self::scheduledTasks();
        }
        return self::say(sprintf('INFO  Done archiving! Total time: %.1f s', microtime(true) - $began));
    }

    /** As the original: a task is put on the timetable first, and done by a later run, once its time has come. */
    private static function scheduledTasks(): int
    {
        self::say('INFO  Starting Scheduled tasks...');
        $table = @unserialize((string) Database::option('TaskScheduler.timetable')) ?: [];
        $due = isset($table[self::PURGE]) && $table[self::PURGE] <= time();
        if ($due || !isset($table[self::PURGE])) {
            $table[self::PURGE] = (intdiv(time(), 3600) + 1) * 3600;
            Database::setOption('TaskScheduler.timetable', serialize($table));
        }
        if ($due) {
            self::say('INFO  Scheduler: executing task ' . self::PURGE . '...');
            $purged = Archive::purgeWhenDue();
            if ($purged !== null) {
                self::say("INFO  Deleted $purged visits.");
            }
        }
        return self::say('INFO  done');
    }

    /** @param array<string, string> $options */
    private static function deleteLogs(array $options): int
    {
        if (!preg_match('/^(\d{4}-\d\d-\d\d),(\d{4}-\d\d-\d\d)$/', $options['dates'] ?? '', $found)) {
            throw new \RuntimeException('Invalid date range supplied: ' . ($options['dates'] ?? ''));
        }
        if (!isset($options['n']) && !isset($options['no-interaction'])) {
            throw new \RuntimeException('This deletes data: give --no-interaction.');
        }
        $limit = isset($options['limit']) ? (int) $options['limit'] : null;
        $count = Archive::purge($found[1], $found[2], (int) ($options['idsite'] ?? 0) ?: null, $limit);
        return self::say("Successfully deleted $count visits.");
    }

    private static function unblock(): int
    {
        Database::run('DELETE FROM {brute_force_log}');
        return self::say('Done');
    }

    private static function diagnostics(): int
    {
        $outdated = Database::outdated();
        self::say('Database: ' . ($outdated ? 'ERROR out of date' : 'ok') . "\nmatomo.js writable: "
            . (is_writable(ROOT . '/matomo.js') ? 'ok' : 'WARNING no'));
        return $outdated ? 1 : 0;
    }

    private static function customJs(): int
    {
        Privacy::rewriteTracker();
        return self::say('The Matomo Javascript tracker has been updated');
    }
}
