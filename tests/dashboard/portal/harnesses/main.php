<?php

require 'webhook.php';

[, $secret, $body, $requests] = $argv;
foreach (file($requests) as $line) {
    $server = [];
    foreach (json_decode($line, true) as $name => $value) {
        $server['HTTP_' . strtoupper(strtr($name, '-', '_'))] = $value;
    }
    echo json_encode(verify(file_get_contents($body), $server, $secret)), "\n";
}
