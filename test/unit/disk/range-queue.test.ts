import { expect, test } from 'vitest'
import { RangeQueue } from '../../../src/disk/range-queue.ts'

function job(order: string[], name: string) {
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  const work = async () => {
    order.push(`${name} begins`)
    await promise
    order.push(`${name} ends`)
  }
  return { work, resolve, reject }
}

test('what overlaps runs in the order of arrival, what does not passes', async () => {
  const queue = new RangeQueue()
  const order: string[] = []
  const [a, b, c] = [job(order, 'a'), job(order, 'b'), job(order, 'c')]
  const doneA = queue.run(0, 10, a.work)
  const doneB = queue.run(5, 15, b.work)
  const doneC = queue.run(20, 30, c.work)
  expect(order).toEqual(['a begins', 'c begins'])
  expect(queue.isFree(12, 14)).toBe(false)
  expect(queue.isFree(15, 20)).toBe(true)
  a.resolve()
  await doneA
  c.resolve()
  await doneC
  b.resolve()
  await doneB
  expect(order.filter(line => !line.startsWith('c'))).toEqual(['a begins', 'a ends', 'b begins', 'b ends'])
  await queue.idle()
  expect(queue.isFree(0, 100)).toBe(true)
})

test('one that fails lets the next go on', async () => {
  const queue = new RangeQueue()
  const order: string[] = []
  const [a, b] = [job(order, 'a'), job(order, 'b')]
  const doneA = queue.run(0, 10, a.work)
  const doneB = queue.run(0, 10, b.work)
  a.reject(new Error('a failed'))
  b.resolve()
  await expect(doneA).rejects.toThrow('a failed')
  await doneB
  expect(order).toEqual(['a begins', 'b begins', 'b ends'])
})
