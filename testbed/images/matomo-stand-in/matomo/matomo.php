<?php
echo "As Matomo is not installed yet, the Tracking API cannot proceed and will exit without error.";
