// Package hashslot says to which slot of a Redis Cluster a key belongs.
package hashslot

import "bytes"

// Count is the number of slots.
const Count = 16384

// polynomial is CRC-16/XMODEM's.
const polynomial = 0x1021

var table = func() (t [256]uint16) {
	for i := range t {
		crc := uint16(i) << 8
		for range 8 {
			if crc&0x8000 != 0 {
				crc = crc<<1 ^ polynomial
			} else {
				crc <<= 1
			}
		}
		t[i] = crc
	}
	return t
}()

// Of returns the key's slot. Of a key with a hash tag (braces with something
// between) only that counts.
func Of(key []byte) int {
	if open := bytes.IndexByte(key, '{'); open >= 0 {
		if n := bytes.IndexByte(key[open+1:], '}'); n > 0 {
			key = key[open+1 : open+1+n]
		}
	}
	crc := uint16(0)
	for _, b := range key {
		crc = crc<<8 ^ table[byte(crc>>8)^b]
	}
	return int(crc % Count)
}
