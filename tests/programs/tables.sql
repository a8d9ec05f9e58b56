-- SPDX-License-Identifier: LGPL-2.1-or-later
-- A database in memory: rows of pseudo-random text, an index, updates, deletes,
-- a join, and SQLite's own check of every page.
create table source(i integer primary key, x integer, body text);
insert into source
  with recursive n(i, x) as (
    select 1, 12345
    union all
    select i + 1, (x * 1103515245 + 12345) % 2147483648 from n where i < 220000)
  select i, x,
    printf('%08x%08x%08x%08x', x, (x * 7919) % 4294967296, (x * 104729) % 4294967296,
      i * x % 4294967296)
    || substr('the quick brown fox jumps over the lazy dog and runs through the dark wood', x % 40)
    || printf('%0500d', x * i)
  from n;
create index source_x on source(x);
select count(*), min(x), max(x), sum(length(body)) from source;
update source set body = upper(body) where i % 5 = 0;
delete from source where i % 7 = 0;
create table small as select i, x % 1000 as bucket from source where i % 11 = 0;
select bucket % 10, count(*), sum(length(s.body)) from small join source s using (i)
  group by 1 order by 1;
select i, x, substr(body, 1, 60) from source where x between 1000000 and 1100000 order by x;
select sum(x * (i % 13)), count(distinct substr(body, 1, 16)) from source;
pragma integrity_check;
