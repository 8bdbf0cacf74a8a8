package command_test

import (
	"strings"
	"testing"

	"github.com/everpool/everpool/internal/command"
)

// Each of these is a row of the pinning table of the design.

func TestSessionCommandsAreSession(t *testing.T) {
	classes(t, command.Session, command.PinNone, `HELLO 3/AUTH p/SELECT 1/READONLY/READWRITE/CLIENT SETNAME n/
		CLIENT SETINFO LIB-NAME n/CLIENT SETINFO LIB-VER n/CLIENT NO-EVICT ON/CLIENT NO-TOUCH ON`)
}

func TestTransactionsPinUntilTheyEnd(t *testing.T) {
	classes(t, command.Pinning, command.PinMulti, "MULTI")
	classes(t, command.Pinning, command.PinWatch, "WATCH k")
	classes(t, command.Exclusive, command.PinNone, "EXEC/DISCARD/UNWATCH")
	for line, want := range map[string]command.Tx{
		"MULTI": command.TxMulti, "exec": command.TxExec, "DISCARD": command.TxDiscard,
		"watch k": command.TxWatch, "UNWATCH": command.TxUnwatch, "GET k": command.TxNone,
	} {
		if got := inspect(t, line).Info.Tx; got != want {
			t.Errorf("%s: %v, want %v", line, got, want)
		}
	}
}

func TestBlockingCommandsAreExclusive(t *testing.T) {
	lines := `BLPOP k 0/BRPOP k 0/BRPOPLPUSH a b 0/BLMOVE a b LEFT LEFT 0/BLMPOP 0 1 k LEFT/BZPOPMIN k 0/BZPOPMAX k 0/
		BZMPOP 0 1 k MIN/XREAD BLOCK 0 STREAMS a 0/XREADGROUP GROUP g c BLOCK 0 STREAMS a 0/TS.READ k 0 BLOCK 0 1/
		WAIT 1 0/WAITAOF 1 0 0`
	classes(t, command.Exclusive, command.PinNone, lines)
	for _, line := range split(lines) {
		if !inspect(t, line).Blocking {
			t.Errorf("%s: not blocking", line)
		}
	}
}

func TestWaitGoesWithTheLastWrite(t *testing.T) {
	for info := range command.All() {
		if want := info.Name == "WAIT" || info.Name == "WAITAOF"; info.AfterWrite != want {
			t.Errorf("%s: %v", info.Name, info.AfterWrite)
		}
	}
}

func TestSubscriptionsPin(t *testing.T) {
	classes(t, command.Pinning, command.PinPubSub, `SUBSCRIBE c/PSUBSCRIBE c/SSUBSCRIBE c/UNSUBSCRIBE/UNSUBSCRIBE c/
		PUNSUBSCRIBE/SUNSUBSCRIBE c`)
	classes(t, command.Shareable, command.PinNone, "PUBLISH c m/SPUBLISH c m/PUBSUB CHANNELS/PUBSUB NUMSUB a")
}

func TestWhatChangesTheNumberOfRepliesPins(t *testing.T) {
	classes(t, command.Pinning, command.PinMonitor, "MONITOR")
	classes(t, command.Pinning, command.PinSync, "SYNC/PSYNC ? -1/REPLCONF capa eof")
	classes(t, command.Pinning, command.PinScriptDebug, "SCRIPT DEBUG YES")
	classes(t, command.Pinning, command.PinReply, "CLIENT REPLY OFF/client reply skip/CLIENT REPLY")
	classes(t, command.Exclusive, command.PinNone, "CLIENT REPLY ON/client reply on")
}

func TestTrackingAndMaintenanceNotificationsPin(t *testing.T) {
	classes(t, command.Pinning, command.PinTracking, "CLIENT TRACKING ON/CLIENT TRACKING ON OFF/CLIENT TRACKING/CLIENT CACHING YES")
	classes(t, command.Exclusive, command.PinNone, "CLIENT TRACKING OFF/client tracking off/CLIENT TRACKINGINFO/CLIENT GETREDIR")
	classes(t, command.Pinning, command.PinMaint, "CLIENT MAINT_NOTIFICATIONS ON")
}

func TestWhoAsksForItsIDKeepsTheConnection(t *testing.T) {
	classes(t, command.Pinning, command.PinClientID, "CLIENT ID/CLIENT INFO")
	classes(t, command.Exclusive, command.PinNone, "CLIENT GETNAME")
	classes(t, command.Shareable, command.PinNone, "CLIENT LIST")
}

func TestAdministrationIsExclusive(t *testing.T) {
	classes(t, command.Exclusive, command.PinNone, `CLIENT KILL ID 1/CLIENT PAUSE 1/CLIENT UNPAUSE/CLIENT UNBLOCK 1/
		MIGRATE h 1 k 0 1/SAVE/DEBUG SLEEP 1/SHUTDOWN/FAILOVER/SCRIPT KILL/FUNCTION KILL/CONFIG SET a b/REPLICAOF h 1/
		CLUSTER FAILOVER/SENTINEL FAILOVER m/ACL LOG RESET`)
	classes(t, command.Shareable, command.PinNone, "CONFIG GET a/SLOWLOG GET/CLUSTER SLOTS/ACL WHOAMI/ACL LOG/ACL LOG 10/SENTINEL MASTERS")
}

func TestAskingIsAFlagForTheNextCommand(t *testing.T) {
	classes(t, command.Shareable, command.PinNone, "ASKING")
	for info := range command.All() {
		if want := info.Name == "ASKING"; info.Asking != want {
			t.Errorf("%s: %v", info.Name, info.Asking)
		}
	}
}

func TestFieldSetsPin(t *testing.T) {
	classes(t, command.Pinning, command.PinHImport, "HIMPORT PREPARE f a/HIMPORT SET k f v/HIMPORT DISCARD f/HIMPORT DISCARDALL")
}

func TestQuitIsLocalAndResetPins(t *testing.T) {
	classes(t, command.Local, command.PinNone, "QUIT")
	classes(t, command.Pinning, command.PinReset, "RESET")
}

func TestLargeRepliesAreShareable(t *testing.T) {
	classes(t, command.Shareable, command.PinNone, "KEYS */SMEMBERS k/HGETALL k/LRANGE k 0 -1/SORT k/SORT k STORE d/EVAL s 0/FT.SEARCH i */PING")
}

func split(lines string) (all []string) {
	for line := range strings.SplitSeq(lines, "/") {
		all = append(all, strings.TrimSpace(line))
	}
	return all
}

func classes(t *testing.T, class command.Class, pin command.Pin, lines string) {
	t.Helper()
	for _, line := range split(lines) {
		for _, line := range []string{line, strings.ToLower(line)} {
			if f := inspect(t, line); f.Info == nil || f.Class != class || f.Pin != pin {
				t.Errorf("%s: %v, pin %v; want %v, pin %v", line, f.Class, f.Pin, class, pin)
			}
		}
	}
}

// The effects of the design's section 7: what decides that a request may be sent
// a second time.

func TestReadsMayBeSentAgain(t *testing.T) {
	effect(t, command.Read, `GET k/MGET a b/HGETALL k/PING/ECHO x/TIME/INFO/DBSIZE/COMMAND/COMMAND INFO get/CONFIG GET a/
		CLIENT LIST/CLIENT GETNAME/CLIENT ID/MEMORY USAGE k/OBJECT ENCODING k/SLOWLOG GET/LATENCY LATEST/CLUSTER SLOTS/
		CLUSTER SHARDS/CLUSTER NODES/CLUSTER INFO/CLUSTER KEYSLOT k/ROLE/LASTSAVE/PUBSUB CHANNELS/SCRIPT EXISTS a/
		FUNCTION LIST/FUNCTION DUMP/FUNCTION STATS/XINFO STREAM s/ACL WHOAMI/ACL LIST/ACL GETUSER u/ACL CAT/WATCH k/UNWATCH/
		SUBSCRIBE c/SSUBSCRIBE c/HELLO 3/HELLO/AUTH p/SELECT 1/READONLY/CLIENT SETNAME n/TOUCH k/EXISTS k/SCAN 0/XREAD STREAMS a 0/
		SORT k/SORT k BY w LIMIT 0 1/SORT_RO k/BITFIELD k GET u8 0/bitfield k get u8 0 get u8 8/BITFIELD_RO k GET u8 0/
		GETEX k/HGETEX k FIELDS 1 f/GEORADIUS k 1 2 3 km/GEORADIUS_RO k 1 2 3 km/GEOSEARCH k/
		EVAL_RO s 0/EVALSHA_RO s 0/FCALL_RO f 0/JSON.GET k/FT.SEARCH i */TS.GET k/TS.RANGE k 0 1/BF.EXISTS k a/
		VSIM k ELE a/DIGEST k/HTTL k FIELDS 1 f/ARGET k 0/WAIT 1 0/WAITAOF 1 0 0/ACL LOG/ACL LOG 5/DUMP k/MULTI`)
}

func TestIdempotentWritesMayRunTwice(t *testing.T) {
	effect(t, command.Idempotent, `SET k v/SET k v EX 10/SET k v px 10/SET k v EXAT 10/SET k v PXAT 10/SET k v KEEPTTL/
		SET k nx/SET nx v EX nx/SETEX k 1 v/PSETEX k 1 v/MSET a 1 b 2/HSET k f v/HMSET k f v/HDEL k f/SADD k a/SREM k a/ZREM k a/
		DEL k/UNLINK k/EXPIRE k 1/EXPIRE k 1 NX/PEXPIRE k 1/EXPIREAT k 1/PEXPIREAT k 1/PERSIST k/SETRANGE k 0 v/
		LSET k 0 v/PFADD k a/PFMERGE a b/PFCOUNT k/GEOADD k 1 2 m/GEOADD k -1.5 2 nx/ZADD k 1 a/ZADD k -inf a/ZADD k +inf a/ZADD k inf a/
		ZADD k .5 nx 1 b/XACK s g 1/XDEL s 1/ZREMRANGEBYSCORE k 0 1/ZREMRANGEBYLEX k - +/HEXPIRE k 1 FIELDS 1 f/
		HPEXPIREAT k 1 NX FIELDS 1 f/HPERSIST k FIELDS 1 f/HSETEX k FIELDS 1 f v/HSETEX k EX 10 FIELDS 1 f v/
		GETEX k EX 1/GETEX k px 1/GETEX k PERSIST/HGETEX k EX 1 FIELDS 1 f/HGETEX k PX 1 FIELDS 1 f/HGETEX k persist FIELDS 1 f/
		JSON.SET k $ 1/JSON.SET k $.a.b 1/SCRIPT LOAD s/BF.ADD k a`)
}

func TestEverythingElseIsUnsafe(t *testing.T) {
	effect(t, command.Unsafe, `INCR k/INCRBY k 1/INCRBYFLOAT k 1/DECR k/DECRBY k 1/APPEND k v/LPUSH k a/LPUSHX k a/RPUSH k a/
		RPUSHX k a/LPOP k/RPOP k/SPOP k/ZPOPMIN k/LMPOP 1 k LEFT/BLPOP k 0/LTRIM k 0 1/XADD s * a b/XTRIM s MAXLEN 1/
		SETNX k v/SETBIT k 0 1/MSETNX a 1/HSETNX k f v/HINCRBY k f 1/HINCRBYFLOAT k f 1/ZINCRBY k 1 a/GETSET k v/GETDEL k/GETEX k EXAT 1/
		GETEX k pxat 1/GETEX k FUTURE/GETEX k ... 2/RENAME a b/RENAMENX a b/COPY a b/MOVE k 1/SMOVE a b m/LMOVE a b LEFT LEFT/LREM k 1 a/LINSERT k BEFORE a b/
		SINTERSTORE d a/ZUNIONSTORE d 1 a/SORT k STORE d/sort k store d/SORT k ... 3/BITFIELD k SET u8 0 1/
		BITFIELD k GET u8 0 INCRBY u8 0 1/BITFIELD k GET u8 0 ... 4/BITOP AND d a/EVAL s 0/EVALSHA s 0/FCALL f 0/EXEC/
		PUBLISH c m/SPUBLISH c m/FLUSHALL/FLUSHDB/SCRIPT FLUSH/FUNCTION FLUSH/FUNCTION LOAD c/CONFIG SET a b/XGROUP CREATE s g 0/
		XREADGROUP GROUP g c STREAMS a >/XCLAIM s g c 0 1/XAUTOCLAIM s g c 0 0/ZREMRANGEBYRANK k 0 1/RESTORE k 0 v/
		SET k v NX/SET k v XX/SET k v GET/SET k v get/SET k v EX 10 NX/SET k v IFEQ x/SET k v IFDEQ x/SET k v IFNE x/
		SET k v IFDNE x/SET k v FUTURE/SET k v ... 1/SET k v EX 10 ... 1/SET k v EX ... 2/ZADD k NX 1 a/ZADD k xx 1 a/
		ZADD k GT 1 a/ZADD k LT 1 a/ZADD k CH 1 a/ZADD k INCR 1 a/ZADD k FUTURE 1 a/ZADD k ... 2/ZADD k "" a/GEOADD k NX 1 2 m/
		GEOADD k CH 1 2 m/GEOADD k ... 3/GEORADIUS k 1 2 3 km STORE d/GEORADIUS k 1 2 3 km storedist d/
		GEORADIUS k 1 2 3 km ... 2/GEORADIUSBYMEMBER k m 1 km STORE d/HSETEX k FNX FIELDS 1 f v/HSETEX k FXX EX 1 FIELDS 1 f v/
		HSETEX k EX 1 ... 4/HGETEX k EXAT 1 FIELDS 1 f/HGETEX k PXAT 1 FIELDS 1 f/
		HGETEX k FUTURE FIELDS 1 f/HGETDEL k FIELDS 1 f/JSON.SET k $ 1 NX/
		JSON.SET k $..a 1/JSON.SET k $[?(@.a==1)] 1/JSON.SET k ... 2/JSON.NUMINCRBY k $ 1/JSON.ARRAPPEND k $ 1/JSON.DEL k $[0]/
		JSON.MSET a $ 1/TS.ADD k * 1/TS.INCRBY k 1/CF.ADD k a/CF.DEL k a/CMS.INCRBY k a 1/TOPK.ADD k a/TDIGEST.ADD k 1/
		FT.CREATE i/FT.CURSOR READ i 1/MSETEX 1 a 1/DELEX k IFEQ a/XDELEX s IDS 1 1/HIMPORT SET k f v/ARINSERT k a/
		ACL LOG RESET/ACL LOG ... 1/LATENCY RESET/SLOWLOG RESET/CLIENT KILL ID 1/SWAPDB 0 1/MIGRATE h 1 k 0 1/NOSUCH k`)
}

func effect(t *testing.T, want command.Effect, lines string) {
	t.Helper()
	for _, line := range split(lines) {
		f := inspect(t, line)
		if f.Effect != want {
			t.Errorf("%s: %v, want %v", line, f.Effect, want)
		}
		if f.Info == nil && line != "NOSUCH k" {
			t.Errorf("%s isn't in the table", line)
		}
	}
}
