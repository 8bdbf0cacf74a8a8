package conformance

import (
	"bytes"
	"fmt"

	"github.com/redis/go-redis/v9"
)

// valueSizes surround the buffer sizes that matter on the way: 1 KiB and
// 32 KiB buffers of go-redis, 4 KiB that a handle keeps, 64 KiB as everpool's limit for a shared request.
var valueSizes = []int{
	0, 1, 2, 1023, 1024, 1025, 4095, 4096, 4097, 32767, 32768, 32769, 65535, 65536, 65537, 1 << 20, 8 << 20,
}

var valueGuarantees = []guarantee{
	{name: "values of every size come back byte for byte", works: true, check: func(w *world) {
		for _, size := range valueSizes {
			k := w.key(fmt.Sprint(size))
			v := binary(size, 1)
			want(w, "OK")(w.rdb.Set(w.ctx, k, v, 0).Result())
			want(w, int64(size))(w.rdb.StrLen(w.ctx, k).Result())
			got, err := w.rdb.Get(w.ctx, k).Bytes()
			if err != nil || !bytes.Equal(got, v) {
				w.Fatalf("%d bytes came back as %d, error %v", size, len(got), err)
			}
			// Next on the same client: a length off by one would show here.
			want(w, "next")(w.rdb.Echo(w.ctx, "next").Result())
			ok(w, w.rdb.Del(w.ctx, k).Err())
		}
	}},
	{name: "small and big values side by side never mix", works: true, check: func(w *world) {
		each(w, 8, func(i int) error {
			for j, size := range valueSizes[:len(valueSizes)-1] {
				k := w.key(fmt.Sprintf("%d-%d", i, j))
				v := binary(size+i, byte(i))
				if err := w.rdb.Set(w.ctx, k, v, 0).Err(); err != nil {
					return err
				}
				got, err := w.rdb.Get(w.ctx, k).Bytes()
				if err != nil || !bytes.Equal(got, v) {
					return wrongf("%d bytes came back as %d, error %v", len(v), len(got), err)
				}
				if err := w.rdb.Del(w.ctx, k).Err(); err != nil {
					return err
				}
			}
			return nil
		})
	}},
	{name: "bytes that look like the protocol stay bytes", check: func(w *world) {
		for i, v := range []string{
			"\r\n", "+OK\r\n", "-ERR no\r\n", "$-1\r\n", "*2\r\n$3\r\nGET\r\n$1\r\na\r\n", ">1\r\n", "_\r\n", "\x00\xff\x00",
		} {
			k := w.key(fmt.Sprint(i) + v)
			want(w, v)(w.rdb.Echo(w.ctx, v).Result())
			want(w, "OK")(w.rdb.Set(w.ctx, k, v, 0).Result())
			want(w, v)(w.rdb.Get(w.ctx, k).Result())
			want(w, int64(1))(w.rdb.HSet(w.ctx, w.key("h"), v, v).Result())
			want(w, v)(w.rdb.HGet(w.ctx, w.key("h"), v).Result())
		}
	}},
	{name: "big elements inside a reply arrive whole", check: func(w *world) {
		k := w.key("l")
		sizes := []int{0, 70_000, 1, 300_000, 65_536, 2}
		var wantVals []string
		for i, size := range sizes {
			v := string(binary(size, byte(i)))
			wantVals = append(wantVals, v)
			ok(w, w.rdb.RPush(w.ctx, k, v).Err())
		}
		each(w, 4, func(int) error {
			got, err := w.rdb.LRange(w.ctx, k, 0, -1).Result()
			if err != nil || len(got) != len(wantVals) {
				return wrongf("%d elements, error %v", len(got), err)
			}
			for i := range got {
				if got[i] != wantVals[i] {
					return wrongf("element %d differs", i)
				}
			}
			return nil
		})
	}},
	{name: "the client's buffer sizes don't matter", check: func(w *world) {
		small := w.client(func(o *redis.Options) {
			o.ReadBufferSize, o.WriteBufferSize = 128, 128
			o.PipelineReadBufferSize, o.PipelineWriteBufferSize = 128, 128
		})
		v := string(binary(100_000, 9))
		want(w, v)(small.Echo(w.ctx, v).Result())
		cmds, err := small.Pipelined(w.ctx, func(p redis.Pipeliner) error {
			for i := range 200 {
				p.Echo(w.ctx, fmt.Sprint(i))
			}
			return nil
		})
		ok(w, err)
		for i, cmd := range cmds {
			want(w, fmt.Sprint(i))(cmd.(*redis.StringCmd).Result())
		}
	}},
}

// binary returns size bytes of every kind, with CRLF all over them, that
// differ from those of another seed.
func binary(size int, seed byte) []byte {
	b := make([]byte, size)
	for i := range b {
		switch i % 7 {
		case 3:
			b[i] = '\r'
		case 4:
			b[i] = '\n'
		default:
			b[i] = byte(i) ^ byte(i>>8) ^ seed
		}
	}
	return b
}
