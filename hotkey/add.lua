-- Adds counts to a sorted set, in one step for all programs that share it.
-- KEYS: the set, those that wait to get in, and the mark of the last halving.
-- ARGV: most members (0: no bound), TTL and half-life in ms (0: none), then a
-- member and its count, and so on.
-- Returns the members that there was no room for, whose counts weren't added.
local set, waiting, halved = KEYS[1], KEYS[2], KEYS[3]
local most, ttl, halfLife = tonumber(ARGV[1]), ARGV[2], ARGV[3]

-- Whatever can fail, fails here, before anything was added.
redis.call('ZCARD', set)
redis.call('ZCARD', waiting)

if halfLife ~= '0' and redis.call('SET', halved, '1', 'NX', 'PX', halfLife) then
  redis.call('ZUNIONSTORE', set, 1, set, 'WEIGHTS', '0.5')
  redis.call('ZREMRANGEBYSCORE', set, '-inf', '(0.5')
  redis.call('DEL', waiting) -- so that what is used no more keeps nothing waiting
end
if most > 0 then
  redis.call('ZREMRANGEBYRANK', set, 0, -most - 1)
end

-- enter lets a member in with the sum of what all programs have counted of it, in
-- place of the least one, which goes on waiting with its own.
local function enter(member, sum)
  if redis.call('ZCARD', set) >= most then
    local least = redis.call('ZRANGE', set, 0, 0, 'WITHSCORES')
    if tonumber(sum) <= tonumber(least[2]) then
      return
    end
    redis.call('ZREM', set, least[1])
    redis.call('ZADD', waiting, least[2], least[1])
  end
  redis.call('ZREM', waiting, member)
  redis.call('ZADD', set, sum, member)
end

for i = 4, #ARGV, 2 do
  local member, count = ARGV[i], ARGV[i + 1]
  if most == 0 or redis.call('ZSCORE', set, member) then
    redis.call('ZINCRBY', set, count, member)
  else
    enter(member, redis.call('ZINCRBY', waiting, count, member))
  end
end

local refused = {}
local over = redis.call('ZCARD', waiting) - most
if most > 0 and over > 0 then
  refused = redis.call('ZRANGE', waiting, 0, over - 1)
  redis.call('ZREMRANGEBYRANK', waiting, 0, over - 1)
end
redis.call('PEXPIRE', set, ttl)
redis.call('PEXPIRE', waiting, ttl)
return refused
