import { expect, test } from 'vitest'
import { SharedRun } from '../../../src/disk/shared-run.ts'

function setUp(options?: { startsLater: boolean }) {
  const ends: ((error?: Error) => void)[] = []
  const shared = new SharedRun(
    () => new Promise((resolve, reject) => ends.push(e => (e === undefined ? resolve() : reject(e)))),
    options
  )
  const order: string[] = []
  const run = (name: string) =>
    shared.run().then(
      () => order.push(name),
      error => order.push(`${name} ${error.message}`)
    )
  const settle = () => new Promise(resolve => setImmediate(resolve))
  return { ends, shared, order, run, settle }
}

test('one at a time; those who come meanwhile share the next', async () => {
  const { ends, order, run, settle } = setUp()
  run('a')
  run('b')
  run('c')
  expect(ends).toHaveLength(1)
  ends[0]!()
  await settle()
  expect(order).toEqual(['a'])
  run('d')
  expect(ends).toHaveLength(2)
  ends[1]!()
  await settle()
  expect(order).toEqual(['a', 'b', 'c'])
  expect(ends).toHaveLength(3)
})

test('an error is told to those whose run it was, and the next one goes on', async () => {
  const { ends, shared, order, run, settle } = setUp()
  run('a')
  run('b')
  ends[0]!(new Error('failed'))
  await settle()
  expect(order).toEqual(['a failed'])
  ends[1]!()
  await shared.idle()
  expect(order).toEqual(['a failed', 'b'])
})

test('work that starts later is shared by all who ask before it has begun, and by nobody after', async () => {
  const { ends, order, run, settle } = setUp({ startsLater: true })
  run('a')
  run('b')
  expect(ends).toHaveLength(0)
  await settle()
  run('c')
  await settle()
  expect(ends).toHaveLength(1)
  ends[0]!()
  await settle()
  expect(order).toEqual(['a', 'b'])
  ends[1]!()
  await settle()
  expect(order).toEqual(['a', 'b', 'c'])
})
