package driver

// IsVirtual marks a connection that is dialed without a socket: hooks don't take
// it for a dial of the network.
func (h *handle) IsVirtual() {}

// IsVirtual is as the handle's.
func (b *brokenHandle) IsVirtual() {}
