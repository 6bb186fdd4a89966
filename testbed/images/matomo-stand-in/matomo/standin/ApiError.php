<?php

declare(strict_types=1);

namespace Standin;

/** Said with HTTP 200, unless it is about missing rights. */
final class ApiError extends \Exception
{
}
