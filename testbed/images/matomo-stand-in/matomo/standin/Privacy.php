<?php

declare(strict_types=1);

namespace Standin;

/** The privacy settings, kept in the table of options. */
final class Privacy
{
    private const DEFAULTS = ['useAnonymizedIpForVisitEnrichment' => '0', 'ipAddressMaskLength' => '2',
        'doNotTrackEnabled' => '1', 'ipAnonymizerEnabled' => '1', 'forceCookielessTracking' => '0',
        'anonymizeUserId' => '0', 'anonymizeOrderId' => '0', 'anonymizeReferrer' => ''];
    private const MARK = "\nvar matomoForceCookieless = true;\n";

    public static function get(string $name): string
    {
        return Database::option("PrivacyManager.$name") ?? self::DEFAULTS[$name];
    }

    public static function set(string $name, string $value): void
    {
        Database::setOption("PrivacyManager.$name", $value);
    }

    /** As the original: the tracker's file is written anew, and nobody is told when it cannot be. */
    public static function rewriteTracker(): void
    {
        $file = ROOT . '/matomo.js';
        $text = str_replace(self::MARK, '', (string) file_get_contents($file));
        if (self::get('forceCookielessTracking') === '1') {
            $text = (string) preg_replace('~\*/~', '*/' . addcslashes(self::MARK, '\\$'), $text, 1);
        }
        if (is_writable($file)) {
            file_put_contents($file, $text);
        }
    }

    /** An address with its last bytes zeroed; for IPv6 64, 80, 104 or all bits. */
    public static function shorten(string $address): string
    {
        $packed = (string) inet_pton($address);
        if (strlen($packed) === 16 && str_starts_with($packed, str_repeat("\0", 10) . "\xff\xff")) {
            $packed = substr($packed, 12);
        }
        if (self::get('ipAnonymizerEnabled') !== '1') {
            return $packed;
        }
        $mask = (int) self::get('ipAddressMaskLength');
        $bytes = strlen($packed) === 4 ? $mask : [0, 8, 10, 13, 16][$mask];
        return substr($packed, 0, strlen($packed) - $bytes) . str_repeat("\0", $bytes);
    }

    /** @return array{logs: int|null, reports: int|null} days and months, null for never */
    public static function retention(): array
    {
        $value = static function (string $section, string $name): int {
            $saved = Settings::get('General', 'enable_delete_old_data_settings_admin')
                ? Database::option($name) : null;
            return (int) ($saved ?? Settings::get($section, $name));
        };
        return [
            'logs' => $value('Deletelogs', 'delete_logs_enable') ? $value('Deletelogs', 'delete_logs_older_than') : null,
            'reports' => $value('Deletereports', 'delete_reports_enable')
                ? $value('Deletereports', 'delete_reports_older_than') : null,
        ];
    }
}
