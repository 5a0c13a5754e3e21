package node

import (
	"github.com/bitgram/bitgram/internal/bank"
	"github.com/bitgram/bitgram/internal/deal"
	"github.com/bitgram/bitgram/internal/engine"
)

// machines are the kinds of contracts that a node has.
func (n *Node) machines() []engine.Machine {
	list := []engine.Machine{
		engine.MachineOf[deal.Sender](deal.KindSender, deal.Machines),
		engine.MachineOf[deal.Agent](deal.KindAgent, deal.Machines),
		engine.MachineOf[deal.Recipient](deal.KindRecipient, deal.Machines),
		engine.MachineOf[bank.Payer](bank.KindPayer, bank.Machines),
		engine.MachineOf[bank.Payee](bank.KindPayee, bank.Machines),
		engine.MachineOf[bank.Sending](bank.KindSending, bank.Machines),
		engine.MachineOf[bank.Relay](bank.KindRelay, bank.Machines),
	}
	var exec engine.Executor = (*executor)(n)
	if n.cfg.Intercept != nil {
		exec = n.cfg.Intercept(exec)
	}
	for i := range list {
		m := &list[i]
		m.Executor, m.Account = exec, account
		switch m.Kind {
		case bank.KindPayer, bank.KindPayee: // stepped for every penny
			m.Hot = true
		case deal.KindAgent:
			m.Observe = func(c engine.Change) {
				n.load.change(c)
				n.published.change(c)
			}
		}
	}
	return list
}
