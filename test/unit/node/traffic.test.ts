import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { Clock } from '../../../src/environment.ts'
import { formatHours, isWithin, parseHours, parseHoursList } from '../../../src/node/hours.ts'
import { defaultSettings, parseSettings } from '../../../src/node/settings.ts'
import { Traffic } from '../../../src/node/traffic.ts'
import { Catalog } from '../../../src/store/catalog.ts'
import type { TrafficLimits } from '../../../src/swarm/traffic-limits.ts'
import { removeFolders, temporaryFolder } from '../../tools/folders.ts'

const silent = { debug() {}, info() {}, warn() {} }

describe('hours of the day', () => {
  test('lie in the day, or go over midnight', () => {
    const lunch = parseHoursList('12:00-13:30')
    expect([719, 720, 809, 810].map(minute => isWithin(lunch, minute))).toEqual([false, true, true, false])
    const night = parseHoursList('22:00-07:00, 12:00-13:00')
    expect([0, 419, 420, 720, 780, 1319, 1320].map(minute => isWithin(night, minute))).toEqual([
      ...[true, true, false, true, false, false, true]
    ])
    expect(isWithin(parseHoursList('always'), 5)).toBe(true)
    expect(formatHours(night)).toBe('22:00-07:00,12:00-13:00')
    expect(formatHours([])).toBe('always')
  })

  test('that are none are refused', () => {
    for (const text of ['', '22-7', '24:30-01:00', '10:00-10:00', '10:60-11:00', '10:00-25:00', 'night']) {
      expect(() => parseHours(text), text).toThrow(TypeError)
    }
    expect(() => parseHoursList(Array(25).fill('10:00-11:00').join())).toThrow('25 pieces')
  })
})

describe('limits of traffic', () => {
  let catalog: Catalog
  let minute = 12 * 60
  let look: () => void = () => undefined
  const applied: TrafficLimits[] = []
  const clock: Clock = {
    now: () => 0,
    monotonicMs: () => 0,
    after: (_ms, run) => {
      look = run
      return { cancel: () => undefined }
    }
  }

  beforeEach(async () => {
    catalog = await Catalog.open(join(await temporaryFolder(), 'catalog'))
    applied.length = 0
    minute = 12 * 60
  })

  afterEach(async () => {
    await catalog.close()
    await removeFolders()
  })

  const open = (settings = defaultSettings()) =>
    Traffic.open(
      { catalog, swarm: { limit: limits => applied.push(limits) }, minuteOfDay: () => minute, clock, log: silent },
      settings.swarm
    )

  test('begin as the settings say: a modest courtesy, and no limit else', async () => {
    const traffic = await open()
    expect(traffic.show()).toEqual({
      ...{ maxUpload: null, maxDownload: null, maxCourtesyUpload: 1_250_000 },
      ...{ hours: 'always', metered: false, quiet: false, changed: [] }
    })
    expect(applied).toHaveLength(1)
  })

  test('change at once, field by field, and stay changed after a restart', async () => {
    const traffic = await open()
    await traffic.change({ maxUpload: '5Mbit' }, false)
    expect(await traffic.change({ maxDownload: '1MB/s' }, false)).toMatchObject({
      ...{ maxUpload: 625_000, maxDownload: 1e6, changed: ['maxUpload', 'maxDownload'] }
    })
    expect(applied.at(-1)).toMatchObject({ maxUploadBytesPerSecond: 625_000, maxDownloadBytesPerSecond: 1e6 })
    expect((await open()).show()).toMatchObject({ maxUpload: 625_000, maxDownload: 1e6 })
    expect(await traffic.change({ metered: true }, true)).toMatchObject({
      ...{ maxUpload: null, metered: true, quiet: true, changed: ['metered'] }
    })
  })

  test('go before the configuration, and back to it with reset', async () => {
    const settings = parseSettings('[swarm]\nmaxUpload = "1Mbit"\nmetered = "yes"\n', 'config.toml')
    const traffic = await open(settings)
    expect(traffic.show()).toMatchObject({ maxUpload: 125_000, quiet: true })
    await traffic.change({ maxUpload: 'unlimited', metered: false }, false)
    expect(traffic.show()).toMatchObject({ maxUpload: null, quiet: false })
    expect(await traffic.change({}, true)).toMatchObject({ maxUpload: 125_000, quiet: true, changed: [] })
  })

  test('outside the hours it is quiet, from the minute on that they end', async () => {
    const traffic = await open(parseSettings('[swarm]\nhours = ["08:00-13:00"]\n', 'config.toml'))
    expect(traffic.show().quiet).toBe(false)
    minute = 13 * 60
    look()
    expect(applied.map(({ quiet }) => quiet)).toEqual([false, true])
    look()
    expect(applied).toHaveLength(2)
    expect(await traffic.change({ hours: 'always' }, false)).toMatchObject({ quiet: false, hours: 'always' })
  })

  test('what is no limit changes nothing, and says so', async () => {
    const traffic = await open()
    for (const change of [{ maxUpload: 'fast' }, { maxDownload: '0Mbit' }, { hours: 'noon' }]) {
      await expect(traffic.change(change, false)).rejects.toMatchObject({ code: 'LIMIT_INVALID' })
    }
    expect(traffic.show().changed).toEqual([])
    const wrong = parseSettings('[swarm]\nhours = ["noon"]\n', 'config.toml')
    await expect(open(wrong)).rejects.toMatchObject({ code: 'CONFIG_INVALID' })
  })
})
