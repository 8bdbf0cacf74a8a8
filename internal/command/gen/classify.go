package main

import (
	"fmt"
	"sort"
	"strings"
)

// classes puts commands where their flags alone don't tell: class, and pin for
// the pinning ones. It is section 11 of the design.
var classes = map[string]string{
	"Session": `HELLO AUTH SELECT READONLY READWRITE CLIENT|SETNAME CLIENT|SETINFO
		CLIENT|NO-EVICT CLIENT|NO-TOUCH`,
	"Local": `QUIT`,
	"Exclusive": `WAIT WAITAOF MIGRATE SAVE DEBUG SHUTDOWN FAILOVER SCRIPT|KILL
		FUNCTION|KILL CLIENT|KILL CLIENT|PAUSE CLIENT|UNPAUSE CLIENT|UNBLOCK
		CLIENT|GETNAME CLIENT|TRACKINGINFO CLIENT|GETREDIR EXEC DISCARD UNWATCH`,
	"Pinning/Multi":  `MULTI`,
	"Pinning/Watch":  `WATCH`,
	"Pinning/PubSub": `SUBSCRIBE PSUBSCRIBE SSUBSCRIBE UNSUBSCRIBE PUNSUBSCRIBE SUNSUBSCRIBE`,

	"Pinning/Monitor":     `MONITOR`,
	"Pinning/Tracking":    `CLIENT|TRACKING CLIENT|CACHING`,
	"Pinning/Maint":       `CLIENT|MAINT_NOTIFICATIONS`,
	"Pinning/Reply":       `CLIENT|REPLY`,
	"Pinning/ClientID":    `CLIENT|ID CLIENT|INFO`,
	"Pinning/ScriptDebug": `SCRIPT|DEBUG`,
	"Pinning/Sync":        `SYNC PSYNC REPLCONF CLUSTER|SYNCSLOTS`,
	"Pinning/HImport":     `HIMPORT|PREPARE HIMPORT|SET HIMPORT|DISCARD HIMPORT|DISCARDALL HIMPORT|HELP`,
	"Pinning/Reset":       `RESET`,
	"Pinning/Session":     `CLIENT|CAPA CLIENT|IMPORT-SOURCE`,
}

// effects lists what flags don't tell: readonly commands are reads anyhow.
var effects = map[string]string{
	"Read": `PING ECHO TIME INFO DBSIZE ROLE LASTSAVE LOLWUT ASKING QUIT WAIT WAITAOF
		COMMAND COMMAND|COUNT COMMAND|DOCS COMMAND|GETKEYS COMMAND|GETKEYSANDFLAGS
		COMMAND|HELP COMMAND|INFO COMMAND|LIST
		CONFIG|GET CONFIG|HELP
		HELLO AUTH SELECT READONLY READWRITE RESET
		CLIENT|SETNAME CLIENT|SETINFO CLIENT|NO-EVICT CLIENT|NO-TOUCH CLIENT|CAPA
		CLIENT|GETNAME CLIENT|GETREDIR CLIENT|HELP CLIENT|ID CLIENT|INFO CLIENT|LIST
		CLIENT|TRACKINGINFO CLIENT|TRACKING CLIENT|CACHING CLIENT|REPLY
		CLIENT|MAINT_NOTIFICATIONS
		MEMORY|USAGE MEMORY|DOCTOR MEMORY|STATS MEMORY|MALLOC-STATS MEMORY|HELP
		OBJECT|HELP SLOWLOG|GET SLOWLOG|LEN SLOWLOG|HELP
		COMMANDLOG|GET COMMANDLOG|LEN COMMANDLOG|HELP
		LATENCY|DOCTOR LATENCY|GRAPH LATENCY|HELP LATENCY|HISTOGRAM LATENCY|HISTORY
		LATENCY|LATEST
		MODULE|LIST MODULE|HELP
		CLUSTER|COUNT-FAILURE-REPORTS CLUSTER|COUNTKEYSINSLOT CLUSTER|GETKEYSINSLOT
		CLUSTER|HELP CLUSTER|INFO CLUSTER|KEYSLOT CLUSTER|LINKS CLUSTER|MYID
		CLUSTER|MYSHARDID CLUSTER|NODES CLUSTER|REPLICAS CLUSTER|SHARDS CLUSTER|SLAVES
		CLUSTER|SLOT-STATS CLUSTER|SLOTS CLUSTER|GETSLOTMIGRATIONS
		PUBSUB|CHANNELS PUBSUB|HELP PUBSUB|NUMPAT PUBSUB|NUMSUB PUBSUB|SHARDCHANNELS
		PUBSUB|SHARDNUMSUB
		SUBSCRIBE PSUBSCRIBE SSUBSCRIBE UNSUBSCRIBE PUNSUBSCRIBE SUNSUBSCRIBE MONITOR
		MULTI DISCARD WATCH UNWATCH
		SCRIPT|EXISTS SCRIPT|HELP SCRIPT|SHOW
		FUNCTION|LIST FUNCTION|DUMP FUNCTION|STATS FUNCTION|HELP
		XINFO|HELP XGROUP|HELP
		ACL|WHOAMI ACL|LIST ACL|GETUSER ACL|CAT ACL|USERS ACL|DRYRUN ACL|GENPASS
		ACL|HELP ACL|LOG
		HOTKEYS|GET HOTKEYS|HELP
		SENTINEL|CKQUORUM SENTINEL|GET-MASTER-ADDR-BY-NAME SENTINEL|HELP
		SENTINEL|INFO-CACHE SENTINEL|MASTER SENTINEL|MASTERS SENTINEL|MYID
		SENTINEL|PENDING-SCRIPTS SENTINEL|REPLICAS SENTINEL|SENTINELS SENTINEL|SLAVES`,
	"Idempotent": `SETEX PSETEX MSET HSET HMSET HDEL SADD SREM ZREM DEL UNLINK
		EXPIRE PEXPIRE EXPIREAT PEXPIREAT PERSIST SETRANGE LSET PFADD PFMERGE PFCOUNT
		XACK XDEL ZREMRANGEBYSCORE ZREMRANGEBYLEX
		HEXPIRE HPEXPIRE HEXPIREAT HPEXPIREAT HPERSIST SCRIPT|LOAD
		BF.ADD BF.MADD FT.ALIASUPDATE FT.DICTADD FT.DICTDEL FT.SYNUPDATE
		TS.DEL VREM VSETATTR`,
}

// rules says whose arguments decide; see the package's rules.go.
var rules = map[string]string{
	"HELLO": "Hello", "CLIENT SETINFO": "SetInfo", "ACL LOG": "ACLLog",
	"CLIENT REPLY": "Reply", "CLIENT TRACKING": "Tracking",
	"XREAD": "XRead", "XREADGROUP": "XRead", "TS.READ": "TSRead",
	"SET": "Set", "GETEX": "GetEx", "HGETEX": "HGetEx", "HSETEX": "HSetEx",
	"ZADD": "AddScored", "GEOADD": "AddScored", "JSON.SET": "JSONSet",
	"SORT": "Sort", "GEORADIUS": "GeoRadius", "GEORADIUSBYMEMBER": "GeoRadius",
	"BITFIELD": "BitField", "MIGRATE": "Migrate",
}

var slots = map[string]string{
	"HELLO": "SlotProto", "AUTH": "SlotAuth", "SELECT": "SlotDB",
	"READONLY": "SlotReadOnly", "READWRITE": "SlotReadOnly",
	"CLIENT SETNAME": "SlotName", "CLIENT SETINFO": "SlotLibName | SlotLibVer",
	"CLIENT NO-EVICT": "SlotNoEvict", "CLIENT NO-TOUCH": "SlotNoTouch",
}

var transactions = map[string]string{
	"MULTI": "TxMulti", "EXEC": "TxExec", "DISCARD": "TxDiscard",
	"WATCH": "TxWatch", "UNWATCH": "TxUnwatch",
}

// blocking lists those that servers don't flag, or not all of them.
var blocking = map[string]bool{"WAIT": true, "WAITAOF": true, "MIGRATE": true, "DEBUG": true}

// classify fills what the pool wants to know.
func classify(all map[string]*entry) error {
	class, err := invert(all, classes)
	if err != nil {
		return err
	}
	effect, err := invert(all, effects)
	if err != nil {
		return err
	}
	for _, names := range []map[string]string{rules, slots, transactions} {
		for n := range names {
			if all[n] == nil {
				return fmt.Errorf("%s isn't a command", n)
			}
		}
	}
	for n, e := range all {
		e.blocking = e.flags["blocking"] || blocking[n]
		e.rule, e.slots, e.tx = rules[n], slots[n], transactions[n]
		switch {
		case effect[n] != "":
			e.effect = effect[n]
		case e.flags["readonly"]:
			e.effect = "Read"
		default:
			e.effect = "Unsafe"
		}
		c, pin, _ := strings.Cut(class[n], "/")
		switch {
		case c != "":
			e.class, e.pin = c, pin
		case e.blocking, e.flags["admin"] && e.effect != "Read":
			e.class = "Exclusive"
		case e.flags["pubsub"] && e.flags["noscript"]:
			return fmt.Errorf("%s looks like a subscription", n)
		default:
			e.class = "Shareable"
		}
	}
	return nil
}

// invert gives each name of a list what it is listed under. A name listed twice,
// or one that isn't a command, is a mistake.
func invert(all map[string]*entry, lists map[string]string) (map[string]string, error) {
	under := map[string]string{}
	for what, names := range lists {
		for n := range strings.FieldsSeq(names) {
			n = strings.ReplaceAll(n, "|", " ")
			if under[n] != "" || all[n] == nil {
				return nil, fmt.Errorf("%s is listed twice, or isn't a command", n)
			}
			under[n] = what
		}
	}
	return under, nil
}

func sorted[V any](m map[string]V) []string {
	names := make([]string, 0, len(m))
	for n := range m {
		names = append(names, n)
	}
	sort.Strings(names)
	return names
}
