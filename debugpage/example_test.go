package debugpage_test

import (
	"expvar"
	"log"
	"net/http"

	"github.com/everpool/everpool/debugpage"
	"github.com/everpool/everpool/driver"
	"github.com/everpool/everpool/hotkey"
)

func Example() {
	d, err := driver.New(driver.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer d.Close()
	tracker, err := hotkey.New(hotkey.Config{ReadSampleRate: 0.01})
	if err != nil {
		log.Fatal(err)
	}
	defer tracker.Close()

	shop := debugpage.Source{Name: "shop", Nodes: d}
	expvar.Publish("everpool", debugpage.Var(shop))

	shop.HotKeysURL = "/debug/hotkeys"
	shop.HotKeys = debugpage.TopKeys(tracker.Top, func(c hotkey.Count) debugpage.HotKey {
		return debugpage.HotKey{Key: c.Key, PerSecond: c.Rate, Share: c.Share}
	}, hotkey.Reads, hotkey.Writes)
	mux := http.NewServeMux()
	mux.Handle("/debug/everpool", debugpage.Handler(shop))
	mux.Handle("/debug/hotkeys", tracker.Handler())
}
