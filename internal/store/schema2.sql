-- contract.done is 2 or 3 if the contract is done and its state is compressed
-- (DEFLATE; 3: with words.bin as the preset dictionary).

-- Patches: of a contract's state, Cut bytes from At on are replaced
-- (u32 At, u32 Cut, the new bytes; big-endian). Writing a state removes its patch.
CREATE TABLE patch (
  contract INTEGER PRIMARY KEY REFERENCES contract (seq) ON DELETE CASCADE,
  bytes    BLOB NOT NULL
);
