<?php

declare(strict_types=1);

namespace Standin;

/** The page, and the script, by which a visitor refuses to be measured. */
final class OptOut
{
    public static function answer(string $action): never
    {
        $name = (string) Settings::get('Tracker', 'ignore_visits_cookie_name');
        $now = isset($_COOKIE[$name]);
        if (Request::get('setOptOut') !== null || isset($_POST['optout'])) {
            $now = (string) ($_POST['optout'] ?? Request::get('setOptOut')) === '1';
            setcookie($name, $now ? 'ignore=*' : '', ['expires' => $now ? time() + 31_536_000 * 2 : 1, 'path' => '/',
                'secure' => Request::secure(), 'samesite' => Request::secure() ? 'None' : 'Lax', 'httponly' => true]);
        }
        if ($action === 'optOutJS') {
            $div = json_encode((string) Request::get('divId', 'matomo-opt-out'));
            header('Content-Type: application/javascript; charset=utf-8');
            echo "(function () {
  var key = 'mtm_consent_removed', box = document.getElementById($div);
  function show() {
    var out = document.cookie.indexOf(key + '=') >= 0;
    box.innerHTML = '<p>' + (out ? 'You are not measured.' : 'You are measured.') + '</p><input type=\"checkbox\" '
      + 'id=\"trackVisits\"' + (out ? '' : ' checked') + '><label for=\"trackVisits\">Measure my visits</label>';
    document.getElementById('trackVisits').onclick = function () {
      document.cookie = key + '=' + (out ? '; max-age=0' : Date.now() + '; max-age=946080000') + '; path=/; SameSite=Lax';
      show();
    };
  }
  if (box) { show(); }
})();\n";
            exit;
        }
        header_remove('X-Frame-Options');
        Page::show('Opt-out', '<p>' . ($now ? 'You are not measured.' : 'You may choose to prevent this website from '
            . 'analyzing the actions you take here.') . '</p><form method="post"><input type="hidden" name="optout" value="'
            . ($now ? '0' : '1') . '"><button>' . ($now ? 'Measure my visits' : 'Do not measure me') . '</button></form>');
    }
}
