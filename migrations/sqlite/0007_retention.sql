-- Retention. Here rows have no days to lie in: what goes is deleted, what is kept
-- stays where it is, and nothing has to be changed for it.
select 1;
