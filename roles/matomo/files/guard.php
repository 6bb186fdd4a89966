<?php
// Runs before each of Matomo's programs. Until an installation is finished, its wizard obeys whoever comes first: only those who
// come from the box itself (8081) may, whatever a stranger puts into addresses and forms. The same test as Matomo's own.
if (($_SERVER['SERVER_PORT'] ?? '') !== '8081') {
    $config = @parse_ini_file('/var/www/html/config/config.ini.php', true, INI_SCANNER_RAW);
    if (empty($config['database']['username']) || !empty($config['General']['installation_in_progress'])) {
        http_response_code(503);
        exit;
    }
}
