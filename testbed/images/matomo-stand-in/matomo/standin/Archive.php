<?php

declare(strict_types=1);

namespace Standin;

/** Reports made from the log, and the end of old data. */
final class Archive
{
    /** @return array<string, int> of one day */
    public static function numbers(int $site, \DateTimeImmutable $day): array
    {
        [$from, $to] = [$day->format('Y-m-d 00:00:00'), $day->format('Y-m-d 23:59:59')];
        $visits = Database::run('SELECT COUNT(*) nb_visits, COUNT(DISTINCT idvisitor) nb_uniq_visitors,
            COALESCE(SUM(visit_total_actions), 0) nb_actions FROM {log_visit} WHERE idsite = ?
            AND visit_last_action_time BETWEEN ? AND ?', [$site, $from, $to])->fetch();
        $kinds = Database::run("SELECT COALESCE(SUM(a.type = 1 AND l.idaction_event_category IS NULL), 0) nb_pageviews,
            COALESCE(SUM(a.type = 3), 0) nb_downloads, COALESCE(SUM(a.type = 2), 0) nb_outlinks,
            COUNT(l.idaction_event_category) nb_events FROM {log_link_visit_action} l
            LEFT JOIN {log_action} a ON a.idaction = l.idaction_url WHERE l.idsite = ? AND l.server_time BETWEEN ? AND ?",
            [$site, $from, $to])->fetch();
        return array_map('intval', $visits + $kinds);
    }

    /** Make the reports of every day that has any log; return how many. */
    public static function all(): int
    {
        $count = 0;
        foreach (Sites::all() as $site) {
            $days = Database::run('SELECT DISTINCT DATE(visit_last_action_time) FROM {log_visit} WHERE idsite = ?',
                [$site['idsite']])->fetchAll(\PDO::FETCH_COLUMN);
            foreach ($days as $day) {
                self::day((int) $site['idsite'], new \DateTimeImmutable($day));
                $count++;
            }
        }
        return $count;
    }

    private static function day(int $site, \DateTimeImmutable $day): void
    {
        $month = $day->format('Y_m');
        $key = 'idsite INT UNSIGNED NOT NULL, date1 DATE NOT NULL, name VARCHAR(190) NOT NULL, ts_archived DATETIME,';
        Database::run("CREATE TABLE IF NOT EXISTS {archive_numeric_$month} ($key value DOUBLE,
            PRIMARY KEY (idsite, date1, name)) ENGINE=InnoDB");
        Database::run("CREATE TABLE IF NOT EXISTS {archive_blob_$month} ($key value MEDIUMBLOB,
            PRIMARY KEY (idsite, date1, name)) ENGINE=InnoDB");
        $pages = Database::run('SELECT a.name, a.type, COUNT(*) hits, COUNT(DISTINCT l.idvisit) visits
            FROM {log_link_visit_action} l JOIN {log_action} a ON a.idaction = l.idaction_url WHERE l.idsite = ?
            AND l.server_time BETWEEN ? AND ? GROUP BY a.name, a.type ORDER BY hits DESC LIMIT 500',
            [$site, $day->format('Y-m-d 00:00:00'), $day->format('Y-m-d 23:59:59')])->fetchAll();
        $save = static fn (string $table, string $name, mixed $value) => Database::run(
            "REPLACE INTO {{$table}} (idsite, date1, name, ts_archived, value) VALUES (?, ?, ?, NOW(), ?)",
            [$site, $day->format('Y-m-d'), $name, $value]);
        foreach (self::numbers($site, $day) as $name => $value) {
            $save("archive_numeric_$month", $name, $value);
        }
        $save("archive_blob_$month", 'Actions_actions_url', gzcompress((string) json_encode($pages)));
        $save("archive_numeric_$month", 'done', 1);
    }

    /** The task of every hour: nothing the first time, and nothing before the interval since the last purge is over. */
    public static function purgeWhenDue(): ?int
    {
        if (Privacy::retention()['logs'] === null) {
            return null;
        }
        if (!Database::option('lastDelete_piwik_logs_initial')) {
            Database::setOption('lastDelete_piwik_logs_initial', '1');
            return null;
        }
        $days = (int) Settings::get('Deletelogs', 'delete_logs_schedule_lowest_interval');
        if ((int) Database::option('lastDelete_piwik_logs') + $days * 86400 > time()) {
            return null;
        }
        Database::setOption('lastDelete_piwik_logs', (string) strtotime('today'));
        return self::purgeByRetention();
    }

    public static function purgeByRetention(): int
    {
        $days = Privacy::retention()['logs'];
        return $days === null ? 0 : self::purge(null, date('Y-m-d H:i:s', strtotime("today -$days days")), null);
    }

    /** Delete the log between two moments, so many rows at a time; return the number of visits. */
    public static function purge(?string $from, string $to, ?int $site, ?int $limit = null): int
    {
        $limit ??= (int) Settings::get('Deletelogs', 'delete_logs_max_rows_per_query');
        $which = 'visit_last_action_time < ?' . ($from ? ' AND visit_last_action_time >= ?' : '')
            . ($site ? ' AND idsite = ?' : '');
        $values = array_values(array_filter([$to, $from, $site], static fn ($value) => $value !== null));
        $deleted = 0;
        do {
            $ids = Database::run("SELECT idvisit FROM {log_visit} WHERE $which LIMIT $limit", $values)
                ->fetchAll(\PDO::FETCH_COLUMN);
            foreach (array_chunk($ids, 2000) as $some) {
                $marks = implode(', ', array_fill(0, count($some), '?'));
                Database::run("DELETE FROM {log_link_visit_action} WHERE idvisit IN ($marks)", $some);
                Database::run("DELETE FROM {log_visit} WHERE idvisit IN ($marks)", $some);
            }
            $deleted += count($ids);
        } while ($ids);
        if ($deleted) {
            Database::run('DELETE a FROM {log_action} a WHERE NOT EXISTS (SELECT 1 FROM {log_link_visit_action} l
                WHERE a.idaction IN (l.idaction_url, l.idaction_name, l.idaction_event_category, l.idaction_event_action))
                AND (SELECT COUNT(*) FROM {log_link_visit_action}) < 5000');
        }
        return $deleted;
    }
}
