-- Notes that a batch of events was removed. ?1 the last position of it.
UPDATE removals SET batches = batches + 1, position = max(position, ?1)
