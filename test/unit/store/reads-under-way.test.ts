import { expect, test } from 'vitest'
import { ReadsUnderWay } from '../../../src/store/reads-under-way.ts'

test('what waits for reads runs at once when there are none', () => {
  const reads = new ReadsUnderWay()
  const ran: string[] = []
  reads.after(() => ran.push('first'))
  reads.after(() => ran.push('second'))
  expect(ran).toEqual(['first', 'second'])
})

test('it waits for the reads that had begun, not for later ones', () => {
  const reads = new ReadsUnderWay()
  const ran: string[] = []
  const early = [reads.begin(), reads.begin()]
  reads.after(() => ran.push('early'))
  const late = reads.begin()
  reads.after(() => ran.push('late'))
  reads.begin()
  reads.end(early[0]!)
  expect(ran).toEqual([])
  reads.end(early[1]!)
  expect(ran).toEqual(['early'])
  reads.end(late)
  expect(ran).toEqual(['early', 'late'])
})

test('what was asked for first runs first, though its reads are over last', () => {
  const reads = new ReadsUnderWay()
  const ran: string[] = []
  const early = reads.begin()
  reads.after(() => ran.push('early'))
  const late = reads.begin()
  reads.after(() => ran.push('late'))
  reads.end(late)
  expect(ran).toEqual([])
  reads.end(early)
  expect(ran).toEqual(['early', 'late'])
})
