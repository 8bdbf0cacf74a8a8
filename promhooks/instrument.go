package promhooks

import "github.com/everpool/everpool/pooler"

// Instrument returns the configuration with OnEvent set to p's, which calls what
// was there before as well.
func (p *Pool) Instrument(cfg pooler.Config) pooler.Config {
	before := cfg.OnEvent
	cfg.OnEvent = func(ev pooler.Event) {
		p.OnEvent(ev)
		if before != nil {
			before(ev)
		}
	}
	return cfg
}
