; <?php exit; ?> DO NOT REMOVE THIS LINE
; The defaults, of which config.ini.php names only the exceptions. A choice of the original's settings.
[database]
host =
username =
password =
dbname =
tables_prefix =
port = 3306
adapter = PDO\MYSQL
schema = Mysql

[General]
force_ssl = 0
assume_secure_protocol = 0
enable_trusted_host_check = 1
enable_browser_archiving_triggering = 1
browser_archiving_disabled_enforce = 0
enable_installer = 1
enable_auto_update = 1
enable_internet_features = 1
enable_delete_old_data_settings_admin = 1
enable_general_settings_admin = 1
minimum_memory_limit = 128
minimum_memory_limit_when_archiving = 768
only_allow_secure_auth_tokens = 1
noreply_email_address = "noreply@{DOMAIN}"
noreply_email_name = ""
login_allowlist_ip[] =

[Deletelogs]
delete_logs_enable = 0
delete_logs_schedule_lowest_interval = 7
delete_logs_older_than = 180
delete_logs_max_rows_per_query = 100000

[Deletereports]
delete_reports_enable = 0
delete_reports_older_than = 12

[Tracker]
record_statistics = 1
visit_standard_length = 1800
ignore_visits_cookie_name = matomo_ignore

[mail]
transport =
host =
port =
username =
password =
type =
encryption =
