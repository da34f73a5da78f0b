import { describe, expect, test } from 'vitest'
import { profileExchange } from '../../../src/node/boot-profiles.ts'
import { defaultSettings } from '../../../src/node/settings.ts'

const OWN = Uint8Array.of(1)
const RELEASED = Uint8Array.of(2)

/** Of image `both` a released profile is here, too. */
const profiles = {
  toShare: (image: string, options: { own: boolean }) => (image === 'both' ? RELEASED : options.own ? OWN : undefined),
  heard: async () => {},
  disown: () => {}
}
const uses = {
  isReleasedHere: (image: string) => image === 'released',
  isReplicated: (image: string) => image === 'replica'
}
const shared = (policy: 'auto' | 'always' | 'never') => {
  const exchange = profileExchange(profiles, uses, policy)
  return ['released', 'replica', 'used', 'both'].map(image => exchange.toShare(image))
}

describe('the recordings of this peer', () => {
  test('go out for own releases and replicas, and not for what is only used', () => {
    expect(defaultSettings().swarm.shareProfile).toBe('auto')
    expect(shared('auto')).toEqual([OWN, OWN, undefined, RELEASED])
  })

  test('go out, or not, for all images, as their owner says; a released profile is no secret', () => {
    expect(shared('always')).toEqual([OWN, OWN, OWN, RELEASED])
    expect(shared('never')).toEqual([undefined, undefined, undefined, RELEASED])
  })
})
