import { expect, test } from 'vitest'
import { RowanError } from '../../../src/errors.ts'
import { BlockLink } from '../../../src/machine/block-link.ts'
import { type FromDisk, MAX_WANTS } from '../../../src/machine/disk-messages.ts'
import { withCode } from '../image/with-code.ts'

function makeLink() {
  const posted: FromDisk[] = []
  const link = new BlockLink(message => posted.push(message))
  const asked = () => posted.flatMap(message => (message.type === 'want' ? [message] : []))
  return { link, posted, asked }
}

test('a block is asked for by message, and its answer is whoever asked’s', async () => {
  const { link, posted } = makeLink()
  const one = link.want('image', 5, 'demand')
  const two = link.want('image', 6, 'read-ahead', { asBytes: true })
  expect(posted).toEqual([
    { type: 'want', want: 1, block: 5, priority: 'demand', asBytes: false },
    { type: 'want', want: 2, block: 6, priority: 'read-ahead', asBytes: true }
  ])
  link.came(2, { slot: 9 })
  link.notCame(1, new RowanError('NO_REPLICA', 'nobody'))
  expect(await two).toEqual({ slot: 9 })
  await expect(one).rejects.toThrow(withCode('NO_REPLICA'))
  // An answer that comes too late harms nobody.
  link.came(2, { slot: 9 })
})

test('what is beyond the limit waits its turn, demand first', async () => {
  const { link, asked } = makeLink()
  for (let block = 0; block < MAX_WANTS; block++) void link.want('image', block, 'read-ahead')
  void link.want('image', 5000, 'fill')
  void link.want('image', 5001, 'read-ahead')
  void link.want('image', 5002, 'demand')
  expect(asked()).toHaveLength(MAX_WANTS)
  for (const want of [1, 2, 3]) link.came(want, { slot: 0 })
  expect(
    asked()
      .slice(MAX_WANTS)
      .map(({ block }) => block)
  ).toEqual([5002, 5001, 5000])
})

test('who gives up is told so at once; the other thread is told only of what it was asked for', async () => {
  const { link, posted, asked } = makeLink()
  for (let block = 0; block < MAX_WANTS; block++) void link.want('image', block, 'demand')
  const abort = new AbortController()
  const waiting = link.want('image', 7000, 'demand', { signal: abort.signal })
  const late = new AbortController()
  late.abort()
  await expect(link.want('image', 7001, 'demand', { signal: late.signal })).rejects.toThrow(withCode('ABORTED'))
  abort.abort()
  await expect(waiting).rejects.toThrow(withCode('ABORTED'))
  expect(posted).toHaveLength(MAX_WANTS)

  const asking = new AbortController()
  link.came(1, { slot: 0 })
  const under = link.want('image', 8000, 'demand', { signal: asking.signal })
  expect(asked().at(-1)).toMatchObject({ block: 8000 })
  asking.abort()
  await expect(under).rejects.toThrow(withCode('ABORTED'))
  expect(posted.at(-1)).toEqual({ type: 'unwant', want: MAX_WANTS + 1 })
  // Its place is free.
  void link.want('image', 8001, 'demand')
  expect(asked().at(-1)).toMatchObject({ block: 8001 })
})
