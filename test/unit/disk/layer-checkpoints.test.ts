import { describe, expect, test } from 'vitest'
import { LayerCheckpoints } from '../../../src/disk/layer-checkpoints.ts'
import { LayerMap, SECTOR_DATA, SECTORS_PER_PAGE } from '../../../src/disk/layer-map.ts'
import { RowanError } from '../../../src/errors.ts'

const PAGES = 20
const turn = () => new Promise(resolve => setImmediate(resolve))

/** A real map, over a map file and a log that say what was done with them; a test makes a step fail. */
function setUp({ maxChangedPages = 10 } = {}) {
  const steps: string[] = []
  const state = {
    fails: '',
    roomBytes: 10_000,
    fill: 0,
    otherIsFree: true,
    failure: undefined as RowanError | undefined
  }
  const soft: RowanError[] = []
  const step = async (name: string) => {
    steps.push(name)
    await turn()
    if (state.fails === name) throw new RowanError(name === 'write map' ? 'DISK_FULL' : 'STORE_IO', `${name} fails`)
  }
  const map = new LayerMap(PAGES * SECTORS_PER_PAGE)
  const checkpoints = new LayerCheckpoints({
    map,
    mapFile: {
      prepare: async (_pages: unknown, sync: () => Promise<void>) => {
        await step('prepare map')
        await sync()
      },
      write: async (pages: { number: number }[]) => {
        await step('write map')
        steps.push(`pages ${pages.map(({ number }) => number)}`)
      }
    } as never,
    pending: {
      get roomBytes() {
        return state.roomBytes
      },
      get fill() {
        return state.fill
      },
      hasContent: false,
      isSynced: false,
      mark: () => steps.push('mark'),
      rotate: () => steps.push('rotate'),
      appendBarrier: () => steps.push('barrier'),
      appendObsolete: () => steps.push('obsolete'),
      freeOlder: () => steps.push('free')
    } as never,
    syncs: {
      get failure() {
        return state.failure
      },
      data: () => step('sync data'),
      log: () => step('sync log'),
      map: () => step('sync map'),
      fail: () => {
        state.failure = new RowanError('LAYER_FAILED', 'failed')
      }
    } as never,
    maxChangedPages,
    onSoftFailure: error => soft.push(error)
  })
  const change = (page: number) => {
    map.set(page * SECTORS_PER_PAGE, page * SECTORS_PER_PAGE + 1, SECTOR_DATA)
    checkpoints.changed()
  }
  return { checkpoints, map, steps, state, soft, change }
}

describe('LayerCheckpoints', () => {
  test('the data is durable before a barrier says so, the map file is prepared before it is written, and all of it before the log is free', async () => {
    const { checkpoints, map, steps, change } = setUp()
    change(3)
    change(1)
    expect(checkpoints.isDue).toBe(true)
    await checkpoints.run()
    const at = (name: string) => steps.indexOf(name)
    expect(steps.slice(0, 2)).toEqual(['mark', 'rotate'])
    expect(at('sync data')).toBeLessThan(at('barrier'))
    expect(at('prepare map')).toBeLessThan(at('sync map'))
    expect(at('sync map')).toBeLessThan(at('write map'))
    expect(steps.slice(at('barrier'))).toEqual([
      'barrier',
      'sync log',
      'write map',
      'pages 1,3',
      'sync map',
      'obsolete',
      'sync log',
      'free'
    ])
    expect(map.changedPages).toBe(0)
    expect(checkpoints.isDue).toBe(false)
  })

  test('what may not be on the disk of the map file is synced before anything in it is overwritten', async () => {
    const { checkpoints, steps, change } = setUp()
    checkpoints.mapMayBeUnsynced()
    change(0)
    await checkpoints.run()
    expect(steps.indexOf('sync map')).toBeGreaterThanOrEqual(0)
    expect(steps.indexOf('sync map')).toBeLessThan(steps.indexOf('prepare map'))
    // Once.
    change(0)
    steps.length = 0
    await checkpoints.run()
    expect(steps.indexOf('prepare map')).toBeLessThan(steps.indexOf('sync map'))
  })

  test('one begins by itself at half of the pages, and writers have to wait at all of them', async () => {
    const { checkpoints, steps, change } = setUp({ maxChangedPages: 6 })
    change(0)
    change(1)
    expect(steps).toEqual([])
    change(2)
    expect(steps).toContain('rotate')
    for (let page = 3; page < 9; page++) change(page)
    expect(checkpoints.hasRoom).toBe(false)
    await checkpoints.idle()
    // What changed meanwhile is for the next one, which somebody who waits asks for.
    await checkpoints.run()
    expect(checkpoints.hasRoom).toBe(true)
    expect(steps.filter(step => step.startsWith('pages'))).toEqual(['pages 0,1,2', 'pages 3,4,5,6,7,8'])
  })

  test('one begins by itself when the log is three quarters full, and writers wait where it has no room', () => {
    const { checkpoints, steps, state, change } = setUp()
    state.fill = 0.74
    change(0)
    expect(steps).toEqual([])
    state.fill = 0.75
    change(1)
    expect(steps).toContain('rotate')
    state.roomBytes = 100
    expect(checkpoints.hasRoom).toBe(false)
  })

  test('a full disk is no failure of the layer: the pages count as changed again, and it can be repeated', async () => {
    const { checkpoints, map, steps, state, soft, change } = setUp({ maxChangedPages: 4 })
    state.fails = 'write map'
    change(0)
    change(1)
    await checkpoints.idle()
    await turn()
    expect(soft).toMatchObject([{ code: 'DISK_FULL' }])
    expect(state.failure).toBeUndefined()
    expect(map.changedPages).toBe(2)
    // Not tried again by itself: it would fail at each write.
    const before = steps.length
    change(2)
    expect(steps).toHaveLength(before)
    state.fails = ''
    await checkpoints.run()
    expect(map.changedPages).toBe(0)
    expect(steps).toContain('pages 0,1,2')
  })

  test('an error of a sync fails the layer, and the log is not freed', async () => {
    const { checkpoints, steps, state, change } = setUp()
    state.fails = 'sync map'
    change(0)
    await expect(checkpoints.run()).rejects.toMatchObject({ code: 'LAYER_FAILED' })
    expect(steps).not.toContain('free')
    await expect(checkpoints.run()).rejects.toBe(state.failure)
  })

  test('who asks while one runs gets that one', async () => {
    const { checkpoints, steps, change } = setUp()
    change(0)
    await Promise.all([checkpoints.run(), checkpoints.run()])
    expect(steps.filter(step => step === 'rotate')).toHaveLength(1)
  })
})
