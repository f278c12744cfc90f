-- Messages that applications publish in their own transactions, on PostgreSQL: `discue.store.postgres.intake`. Programs
-- before this migration leave them for newer ones to move.
$intake
