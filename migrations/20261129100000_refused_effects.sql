-- When an effect was refused for good the first time: it is kept a day for the operator to see, however often it had failed
-- before, and given up at the second refusal.
alter table effects add column refused_at timestamptz;
