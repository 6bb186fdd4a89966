<?php

declare(strict_types=1);

namespace Piwik;

/** Where Matomo keeps its number: whoever compares an image with a volume reads it here. */
final class Version
{
    public const VERSION = '@VERSION@';
}
