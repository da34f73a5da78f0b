/**
 * Which of two records of an appliance is the newer one.
 *
 * The delegation comes first: the root key gave it, and the key that signs below it cannot. So a record under a higher
 * delegation supersedes every record under a lower one, whatever their numbers; were the number alone to decide, a
 * stolen release key could sign the highest one that there is, and no new key would ever get past it.
 */

/** What orders the records of one appliance. */
export interface RecordOrder {
  delegationSequence: number
  sequence: number
}

/** Negative if `a` is older than `b`, positive if newer; 0 for two records that cannot both be right, unless the same. */
export function compareRecords(a: RecordOrder, b: RecordOrder): number {
  return a.delegationSequence - b.delegationSequence || a.sequence - b.sequence
}
