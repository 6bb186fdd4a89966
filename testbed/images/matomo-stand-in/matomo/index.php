<?php

declare(strict_types=1);

require __DIR__ . '/standin/bootstrap.php';

Standin\Front::answer();
