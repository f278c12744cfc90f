"""Each file decides some of the promises over a history: sentences, one for each place where one was broken."""
