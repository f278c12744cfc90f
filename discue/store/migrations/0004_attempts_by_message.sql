-- No query goes by it, and each delivery paid for it: the newest attempts of so many listeners stand in as many of its pages.
DROP INDEX attempt_listener;
