import { expect, test } from 'vitest'
import { compareRecords } from '../../../src/image/release-order.ts'

test('the delegation counts first, then the number under it', () => {
  const records = [
    [2, 1],
    [1, Number.MAX_SAFE_INTEGER],
    [2, 0],
    [1, 5]
  ].map(([delegationSequence, sequence]) => ({ delegationSequence: delegationSequence!, sequence: sequence! }))
  const ordered = records.toSorted(compareRecords).map(record => [record.delegationSequence, record.sequence])
  expect(ordered).toEqual([
    [1, 5],
    [1, Number.MAX_SAFE_INTEGER],
    [2, 0],
    [2, 1]
  ])
  expect(compareRecords(records[0]!, { ...records[0]! })).toBe(0)
})
