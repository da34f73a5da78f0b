/**
 * Boot profiles between the rooms: what goes out to other peers, and how one is made for a release.
 */
import { RowanError } from '../errors.ts'
import { encodeProfile } from '../image/boot-profile.ts'
import { sha256, toHex } from '../image/hash.ts'
import { recordBoot } from '../machine/boot-recording.ts'
import type { PublisherComponents } from '../release/publisher.ts'
import type { LocalImage } from '../store/images.ts'
import type { Profiles } from '../store/profiles.ts'
import type { ProfileExchange } from '../swarm/swarm.ts'
import type { Settings } from './settings.ts'

/** What is needed to tell whose an image is. */
export interface ImageUses {
  /** Images of own releases. */
  isReleasedHere(image: string): boolean
  isReplicated(image: string): boolean
}

/**
 * The profiles that peers are given, and those that they give. A recording tells what its owner boots, and when what is read; so without a
 * word from the owner it goes out only for images that this peer serves in public anyway.
 */
export function profileExchange(
  profiles: Pick<Profiles, 'toShare' | 'heard' | 'disown'>,
  uses: ImageUses,
  policy: Settings['swarm']['shareProfile']
): ProfileExchange {
  const mayShare = (image: string) => {
    if (policy !== 'auto') return policy === 'always'
    return uses.isReleasedHere(image) || uses.isReplicated(image)
  }
  return {
    toShare: image => profiles.toShare(image, { own: mayShare(image) }),
    heard: (image, from, bytes, blocks) => profiles.heard(image, from, bytes, blocks),
    disown: from => profiles.disown(from)
  }
}

interface RecordingComponents {
  images: { open(id: string): Promise<LocalImage | undefined> }
  profiles: Pick<Profiles, 'recorded' | 'expect'>
  disk: Parameters<typeof recordBoot>[1]
  /** Whether KVM may be used, and is faster. */
  kvm(): Promise<boolean>
}

/** For a publisher: boots an image, keeps the profile, says its hash. */
export function bootRecorder(
  { images, profiles, disk, kvm }: RecordingComponents,
  folders: { temporaryFolder: string; socketFolder: string }
): NonNullable<PublisherComponents['recordBoot']> {
  return async (id, options) => {
    const image = await images.open(id)
    if (image === undefined) throw new RowanError('INTERNAL', `the image ${id} is not here`)
    const endUse = image.use()
    const profile = await recordBoot(image, disk, { ...folders, ...options, kvm: await kvm() }).finally(endUse)
    await profiles.recorded(id, profile, { isFresh: true })
    const hash = toHex(sha256(encodeProfile(profile)))
    await profiles.expect(id, { hash })
    return hash
  }
}
