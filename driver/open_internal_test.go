package driver

import "testing"

// Clients of Open learn of a change without traffic: they are bound, those on sentinels
// by the topology that their cluster client uses.
func TestOpenBindsClusterClients(t *testing.T) {
	for _, url := range []string{"redis://10.0.0.1?cluster=true", "redis://10.0.0.1?master_name=m&route_randomly=true"} {
		db, err := Open(url)
		if err != nil {
			t.Fatal(err)
		}
		if n := len(db.topology().bound); n != 1 {
			t.Errorf("%s: bound %d times", url, n)
		}
		_ = db.Close()
	}
}
