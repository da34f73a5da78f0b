import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { RowanError } from '../../../src/errors.ts'
import { MAX_REPLICATED_IMAGES, type ReplicatedImage, Replication } from '../../../src/release/replication.ts'
import { Catalog } from '../../../src/store/catalog.ts'
import { removeFolders, temporaryFolder } from '../../tools/folders.ts'
import { waitUntil } from '../../tools/wait.ts'
import { ManualClock } from './support/clock.ts'
import { MemoryLog } from './support/log.ts'

/** Images of ten blocks on the other side of a network that the test opens block by block. */
class TestSwarm {
  readonly here = new Map<string, number>()
  readonly filling = new Set<string>()
  opened = 0
  /** For as long as counting what is here takes. */
  counting = Promise.resolve()
  failure: RowanError | undefined
  #arrived = Promise.withResolvers<void>()

  /** So many blocks of every image that is being filled have come. */
  deliver(image: string, blocks: number): void {
    this.here.set(image, blocks)
    this.#arrived.resolve()
    this.#arrived = Promise.withResolvers()
  }

  fail(error: RowanError): void {
    this.failure = error
    this.#arrived.resolve()
    this.#arrived = Promise.withResolvers()
  }

  async openImage(id: string) {
    this.opened++
    if (this.failure !== undefined) throw this.failure
    const { here } = this
    if (!here.has(id)) here.set(id, 0)
    return {
      recount: () => this.counting,
      get complete() {
        return here.get(id) === 10
      },
      get local() {
        return { blocks: here.get(id)!, of: 10 }
      }
    }
  }

  async fill(id: string, options: { signal: AbortSignal; onProgress?: (done: number, of: number) => void }) {
    if (options.signal.aborted) throw new RowanError('ABORTED', 'stopped')
    this.filling.add(id)
    const aborted = new Promise<never>((_resolve, reject) => {
      options.signal.addEventListener('abort', () => reject(new RowanError('ABORTED', 'stopped')))
    })
    aborted.catch(() => {})
    try {
      while (this.here.get(id)! < 10) {
        await Promise.race([this.#arrived.promise, aborted])
        if (this.failure !== undefined) throw this.failure
        options.onProgress?.(this.here.get(id)!, 10)
      }
    } finally {
      this.filling.delete(id)
    }
  }
}

let folder: string
let catalog: Catalog
let clock: ManualClock
let swarm: TestSwarm
let announced: string[]
let synced: number
let servedAnyway: Set<string>
let replication: Replication

const what = (name: string): ReplicatedImage => ({ appliance: `p/${name}`, version: 'v1', image: name })

async function openReplication(): Promise<Replication> {
  return Replication.open({
    catalog,
    swarm,
    pool: {
      sync: async () => {
        synced++
      }
    },
    directory: {
      announceReplica: (image, appliance, complete) => announced.push(`${image} ${appliance} ${complete}`),
      withdrawReplica: image => announced.push(`${image} withdrawn`)
    },
    isServedAnyway: image => servedAnyway.has(image),
    clock,
    log: new MemoryLog()
  })
}

beforeEach(async () => {
  folder = await temporaryFolder()
  catalog = await Catalog.open(join(folder, 'catalog'))
  clock = new ManualClock()
  swarm = new TestSwarm()
  announced = []
  synced = 0
  servedAnyway = new Set()
  replication = await openReplication()
  replication.start()
})

afterEach(async () => {
  await replication.stop()
  await catalog.close()
  await removeFolders()
})

const until = (name: string, condition: () => boolean) => waitUntil(name, condition)

test('an image is completed, made durable, then announced as complete', async () => {
  const progress: number[] = []
  const answer = replication.replicate(what('a'), [], { wait: true, onProgress: done => progress.push(done) })
  await until('the fill', () => swarm.filling.has('a'))
  expect(announced).toEqual(['a p/a false'])
  expect(replication.list()).toMatchObject([{ image: 'a', complete: false, local: { blocks: 0, of: 10 } }])
  swarm.deliver('a', 4)
  await until('progress', () => progress.length === 1)
  expect(synced).toBe(0)
  swarm.deliver('a', 10)
  expect(await answer).toEqual({ ...what('a'), complete: true })
  expect(announced).toEqual(['a p/a false', 'a p/a true'])
  expect(synced).toBe(1)
  expect(progress).toEqual([4, 10])
  expect(replication.list()).toMatchObject([{ complete: true, problem: undefined }])
})

test('without waiting the answer comes at once', async () => {
  expect(await replication.replicate(what('a'), [])).toEqual({ ...what('a'), complete: false })
  await until('the fill', () => swarm.filling.has('a'))
})

test('an image that is whole already is only announced', async () => {
  swarm.here.set('a', 10)
  expect(await replication.replicate(what('a'), [], { wait: true })).toMatchObject({ complete: true })
  expect(announced).toEqual(['a p/a true'])
  expect(await replication.replicate(what('a'), [], { wait: true })).toMatchObject({ complete: true })
  expect(swarm.opened).toBe(1)
})

test('the promise is taken up again after a restart', async () => {
  await replication.replicate(what('a'), [])
  swarm.here.set('b', 10)
  await replication.replicate(what('b'), [], { wait: true })
  await replication.stop()
  announced.length = 0
  replication = await openReplication()
  expect(replication.has('a')).toBe(true)
  expect(announced).toEqual([])
  replication.start()
  await until('both', () => announced.includes('a p/a false') && announced.includes('b p/b true'))
  swarm.deliver('a', 10)
  await until('a whole', () => announced.includes('a p/a true'))
})

test('few are completed at a time, and the others get their turn', async () => {
  for (const name of ['a', 'b', 'c', 'd']) await replication.replicate(what(name), [])
  await until('two', () => swarm.filling.size === 2)
  expect([...swarm.filling]).toEqual(['a', 'b'])
  swarm.deliver('b', 10)
  await until('the third', () => swarm.filling.has('c'))
  expect([...swarm.filling].sort()).toEqual(['a', 'c'])
})

test('what fails is told to who waits, and tried again later', async () => {
  swarm.failure = new RowanError('NO_REPLICA', 'nobody has it')
  await expect(replication.replicate(what('a'), [], { wait: true })).rejects.toMatchObject({ code: 'NO_REPLICA' })
  expect(replication.list()).toMatchObject([{ complete: false, problem: { code: 'NO_REPLICA' } }])
  swarm.failure = undefined
  clock.advance(29_999)
  expect(swarm.opened).toBe(1)
  clock.advance(1)
  await until('the next try', () => swarm.filling.has('a'))
  swarm.deliver('a', 10)
  await until('the end', () => announced.includes('a p/a true'))
  expect(replication.list()).toMatchObject([{ complete: true, problem: undefined }])
})

test('asking again does not wait for the next try', async () => {
  swarm.failure = new RowanError('NO_REPLICA', 'nobody has it')
  await expect(replication.replicate(what('a'), [], { wait: true })).rejects.toMatchObject({ code: 'NO_REPLICA' })
  swarm.failure = undefined
  swarm.here.set('a', 10)
  expect(await replication.replicate(what('a'), [], { wait: true })).toMatchObject({ complete: true })
})

test('a full pool in the middle leaves the promise standing', async () => {
  const answer = replication.replicate(what('a'), [], { wait: true })
  answer.catch(() => {})
  await until('the fill', () => swarm.filling.has('a'))
  swarm.fail(new RowanError('POOL_FULL', 'no room'))
  await expect(answer).rejects.toMatchObject({ code: 'POOL_FULL' })
  expect(announced).not.toContain('a p/a true')
  expect(replication.has('a')).toBe(true)
})

test('who stops waiting does not stop the work', async () => {
  const controller = new AbortController()
  const answer = replication.replicate(what('a'), [], { wait: true, signal: controller.signal })
  answer.catch(() => {})
  await until('the fill', () => swarm.filling.has('a'))
  controller.abort()
  await expect(answer).rejects.toMatchObject({ code: 'ABORTED' })
  swarm.deliver('a', 10)
  await until('the end', () => announced.includes('a p/a true'))
})

test('a stop ends the waiting of all, also of those whose turn has not come', async () => {
  const answers = ['a', 'b', 'c'].map(name => replication.replicate(what(name), [], { wait: true }))
  const outcomes = Promise.allSettled(answers)
  await until('two', () => swarm.filling.size === 2)
  await replication.stop()
  for (const outcome of await outcomes) expect(outcome).toMatchObject({ reason: { code: 'ABORTED' } })
  expect(clock.waiting).toBe(0)
})

test('a promise can be taken back', async () => {
  await replication.replicate(what('a'), [])
  await until('the fill', () => swarm.filling.has('a'))
  await replication.forget(what('a'))
  await until('the end of the fill', () => !swarm.filling.has('a'))
  expect(announced.at(-1)).toBe('a withdrawn')
  expect((await openReplication()).list()).toEqual([])
  await replication.forget(what('a'))
})

test('it is taken back for one version, or for all of an appliance; what was not promised is an error', async () => {
  await replication.replicate(what('a'), [])
  const later = { ...what('b'), appliance: 'p/a', version: 'v2' }
  await replication.replicate(later, [])
  await replication.replicate(what('c'), [])
  await expect(replication.end('p/a', 'v9')).rejects.toMatchObject({ code: 'NOT_REPLICATED' })
  await expect(replication.end('p/nobody')).rejects.toMatchObject({ code: 'NOT_REPLICATED' })
  expect(await replication.end('p/a', 'v2')).toEqual([later])
  expect(replication.list().map(({ image }) => image)).toEqual(['a', 'c'])
  expect(await replication.end('p/a')).toEqual([what('a')])
  expect((await openReplication()).list().map(({ image }) => image)).toEqual(['c'])
})

test('releases of one content are each promised, and each taken back', async () => {
  const other = { appliance: 'p/b', version: 'v7', image: 'a' }
  await replication.replicate(what('a'), [])
  await replication.replicate(other, [])
  await replication.replicate(other, [])
  await replication.stop()
  replication = await openReplication()
  expect(replication.list()).toMatchObject([what('a'), other])
  expect(await replication.end('p/a')).toEqual([what('a')])
  expect(announced).not.toContain('a withdrawn')
  expect((await openReplication()).list()).toMatchObject([other])
  expect(await replication.end('p/b', 'v7')).toEqual([other])
  expect(announced).toContain('a withdrawn')
  expect((await openReplication()).list()).toEqual([])
})

test('an image that is served for another reason stays announced when the promise ends', async () => {
  await replication.replicate(what('a'), [])
  servedAnyway.add('a')
  await replication.forget(what('a'))
  expect(announced).not.toContain('a withdrawn')
})

test('there is a limit', async () => {
  for (let index = 0; index < MAX_REPLICATED_IMAGES; index++) await replication.replicate(what(`i${index}`), [])
  await expect(replication.replicate(what('more'), [])).rejects.toMatchObject({ code: 'LIMIT_EXCEEDED' })
  expect(await replication.replicate(what('i0'), [])).toMatchObject({ complete: false })
})

test('a promise that is taken back while what is here is being counted is not announced afterwards', async () => {
  const counted = Promise.withResolvers<void>()
  swarm.counting = counted.promise
  await replication.replicate(what('grid'), [])
  await waitUntil('the image to be opened', () => swarm.opened === 1)
  await replication.forget(what('grid'))
  counted.resolve()
  await replication.stop()
  expect(announced.at(-1)).toBe('grid withdrawn')
})
