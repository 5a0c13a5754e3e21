package node

import (
	"github.com/bitgram/bitgram/internal/bank"
	"github.com/bitgram/bitgram/internal/deal"
	"github.com/bitgram/bitgram/internal/engine"
)

// machines are the kinds of contracts that a node has.
func (n *Node) machines() []engine.Machine {
	list := []engine.Machine{
		engine.MachineOf[deal.Agent](deal.KindAgent, deal.Machines),
		engine.MachineOf[bank.Payer](bank.KindPayer, bank.Machines),
		engine.MachineOf[bank.Payee](bank.KindPayee, bank.Machines),
		engine.MachineOf[bank.Sending](bank.KindSending, bank.Machines),
		engine.MachineOf[bank.Relay](bank.KindRelay, bank.Machines),
	}
	for i := range list {
		m := &list[i]
		m.Executor, m.Account = (*executor)(n), account
		switch m.Kind {
		case bank.KindPayer, bank.KindPayee: // stepped for every penny
			m.Hot = true
		case deal.KindAgent:
			m.Observe = func(c engine.Change) {
				n.load.change(c)
				if a := c.State.(deal.Agent); a.Serves() {
					n.Serves(a.Quote.Point)
				}
			}
		}
	}
	n.Wake(bank.KindPayer, bank.CoinsFreed{})
	list = append(list, n.Delivery.Machines()...)
	if n.cfg.Intercept != nil {
		for i := range list {
			list[i].Executor = n.cfg.Intercept(list[i].Executor)
		}
	}
	return list
}
