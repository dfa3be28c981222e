-- Whether the log's file has room for projections.
SELECT last FROM projection_numbers
