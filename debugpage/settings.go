package debugpage

import "github.com/everpool/everpool/pooler"

// setting is one of a pool's, as it is in force.
type setting struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

func settingsOf(cfg pooler.Config) []setting {
	var all []setting
	for _, a := range cfg.LogValue().Group() {
		all = append(all, setting{a.Key, a.Value.String()})
	}
	return all
}
