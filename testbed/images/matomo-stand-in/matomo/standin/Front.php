<?php

declare(strict_types=1);

namespace Standin;

/** index.php: decides who answers, in the original's order. */
final class Front
{
    public static function answer(): void
    {
        $module = (string) Request::get('module', '');
        $action = (string) Request::get('action', '');
        if (!Settings::installed()) {
            Installer::answer($action);
        }
        $optOut = $module === 'CoreAdminHome' && in_array($action, ['optOut', 'optOutJS'], true);
        if (Settings::get('General', 'force_ssl') && !Request::secure() && !$optOut) {
            Page::redirect('https://' . $_SERVER['HTTP_HOST'] . $_SERVER['REQUEST_URI']);
        }
        if ($module === 'Installation' || in_array($action, Installer::STEPS, true)) {
            Page::alert('Error', 'Matomo is already installed');
        }
        if ($optOut) {
            OptOut::answer($action);
        }
        if (Database::outdated()) {
            if ($module === 'API') {
                Api::say(['result' => 'error', 'message' => 'Database Upgrade Required. Your Matomo database is '
                    . 'out-of-date, and must be upgraded before you can continue.']);
            }
            Page::show('Database Upgrade Required', '<p>Your Matomo database is out-of-date.</p>');
        }
        if ($module === 'API') {
            Api::answer();
        }
        Page::show('Sign in', '<form method="post"><input name="form_login"><input name="form_password"'
            . ' type="password"></form>');
    }
}
